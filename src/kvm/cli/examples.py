"""An example for each command, as somebody would type it behind ``kvmctl``."""

from __future__ import annotations

EXAMPLES = """\
allocpages 2M 64
attach-device web1 disk.xml --persistent
attach-disk web1 /images/data.qcow2 vdb --subdriver qcow2 --persistent
attach-interface web1 network default --model virtio --persistent
autostart web1
await web1 domain-inactive
backup-begin web1 backup.xml
backup-dumpxml web1
blkdeviotune web1 vda --total-iops-sec 500
blkiotune web1 --weight 500
blockcommit web1 vda --active --pivot
blockcopy web1 vda /images/copy.qcow2 --wait --finish
blockjob web1 vda -o json
blockpull web1 vda --wait
blockresize web1 vda 20G
capabilities -o json | jq .host.cpu.arch
change-media web1 sda /images/debian.iso --update
checkpoint-create web1
checkpoint-create-as web1 monday
checkpoint-delete web1 monday
checkpoint-dumpxml web1 monday
checkpoint-edit web1 monday
checkpoint-info web1 monday
checkpoint-list web1 -o json
checkpoint-parent web1 monday
console web1
cpu-baseline cpus.xml
cpu-compare cpu.xml
cpu-models x86_64
cpu-stats web1 --total -o json
create web1.xml
define web1.xml
desc web1 --title --new-desc "The first web server"
destroy web1 --graceful
detach-device web1 disk.xml --persistent
detach-device-alias web1 ua-data
detach-disk web1 vdb --persistent
detach-interface web1 bridge --mac 52:54:00:12:34:56
dom-fd-associate web1 disks --pass-fds 3
domblkerror web1
domblkinfo web1 --all -o json
domblklist web1 --details
domblkstat web1 vda -o json
domblkthreshold web1 vda 10G
domcapabilities -o json
domcontrol web1
domdirtyrate-calc web1 --seconds 2
domdisplay web1
domdisplay-reload web1
domfsfreeze web1
domfsinfo web1
domfsthaw web1
domfstrim web1
domhostname web1
domid web1
domif-getlink web1 vnet0
domif-setlink web1 vnet0 down
domifaddr web1 --source agent -o json
domifannounce web1
domiflist web1
domifstat web1 vnet0 -o json
domiftune web1 vnet0 --inbound 1000
dominfo web1
domjobabort web1
domjobinfo web1 -o json
domlaunchsecinfo web1
dommemstat web1 -o json
domname 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
dompmsuspend web1 mem
dompmwakeup web1
domrename web1 web2
domsetlaunchsecstate web1 --secrethdr header --secret data
domstate web1 --reason
domstats web1 -o json | jq '.web1.balloon'
domthrottlegroupdel web1 slow
domthrottlegroupinfo web1 slow
domthrottlegrouplist web1
domthrottlegroupset web1 slow --total-iops-sec 500
domtime web1 --sync
domuuid web1
domxml-from-native qemu-argv arguments.txt
domxml-to-native qemu-argv web1
dump web1 /var/tmp/web1.core --memory-only --live
dumpxml web1 > web1.xml
edit web1 --yaml
emulatorpin web1 0-3
event --all --loop -o json
find-storage-pool-sources netfs source.xml
find-storage-pool-sources-as netfs nfs.example.org
freecell --all -o json
freepages --all
get-user-sshkeys web1 alice
guest-agent-timeout web1 --timeout 10
guestinfo web1 --os -o json
guestvcpus web1
hostname
hypervisor-cpu-baseline cpus.xml
hypervisor-cpu-compare cpu.xml
hypervisor-cpu-models --arch x86_64
iface-begin
iface-bridge eth0 br0
iface-commit
iface-define br0.xml
iface-destroy br0
iface-dumpxml br0
iface-edit br0
iface-list --all
iface-mac br0
iface-name 52:54:00:12:34:56
iface-rollback
iface-start br0
iface-unbridge br0
iface-undefine br0
inject-nmi web1
iothreadadd web1 1
iothreaddel web1 1
iothreadinfo web1
iothreadpin web1 1 0-3
iothreadset web1 1 --poll-max-ns 32768
list --all -o json
lxc-enter-namespace web1 /bin/ps
managedsave web1
managedsave-define web1 web1.xml
managedsave-dumpxml web1
managedsave-edit web1
managedsave-remove web1
maxvcpus kvm
memtune web1 --hard-limit 4G
metadata web1 https://example.org/app
migrate web1 qemu+ssh://root@hv2/system --live --verbose
migrate-compcache web1 --size 64M
migrate-getmaxdowntime web1
migrate-getspeed web1
migrate-postcopy web1
migrate-setmaxdowntime web1 500
migrate-setspeed web1 100
net-autostart default
net-create lab.xml
net-define lab.xml
net-desc default
net-destroy default
net-dhcp-leases default -o json
net-dumpxml default
net-edit default
net-event --event lifecycle --loop -o json
net-info default
net-list --all
net-metadata default https://example.org/app
net-name 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
net-port-create default port.xml
net-port-delete default 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
net-port-dumpxml default 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
net-port-list default
net-start default
net-undefine default
net-update default add ip-dhcp-host host.xml --live --config
net-uuid default
node-memory-tune --shm-pages-to-scan 200
nodecpumap -o json
nodecpustats -o json
nodedev-autostart mdev_1
nodedev-create mdev.xml
nodedev-define mdev.xml
nodedev-destroy mdev_1
nodedev-detach pci_0000_01_00_0
nodedev-dumpxml computer
nodedev-event --event lifecycle --loop -o json
nodedev-info computer
nodedev-list --cap net
nodedev-reattach pci_0000_01_00_0
nodedev-reset pci_0000_01_00_0
nodedev-start mdev_1
nodedev-undefine mdev_1
nodedev-update mdev_1 mdev.xml
nodeinfo -o json | jq .memory_size
nodememstats
nodesevinfo
nodesuspend mem 60
numatune web1 --nodeset 0
nwfilter-binding-create binding.xml
nwfilter-binding-delete vnet0
nwfilter-binding-dumpxml vnet0
nwfilter-binding-list
nwfilter-define no-spam.xml
nwfilter-dumpxml clean-traffic
nwfilter-edit clean-traffic
nwfilter-list
nwfilter-undefine no-spam
perf web1
pool-autostart images
pool-build images
pool-capabilities -o json
pool-create images.xml
pool-create-as images dir --target /images
pool-define images.xml
pool-define-as images dir --target /images
pool-delete images
pool-destroy images
pool-dumpxml images
pool-edit images
pool-event --event lifecycle --loop -o json
pool-info images -o json
pool-list --details
pool-name 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
pool-refresh images
pool-start images
pool-undefine images
pool-uuid images
qemu-agent-command web1 '{"execute": "guest-ping"}'
qemu-attach 4711
qemu-monitor-command web1 '{"execute": "query-status"}' -o json
qemu-monitor-event web1 --loop
reboot web1
reset web1
restore /images/web1.saved
resume web1
save web1 /images/web1.saved
save-image-define /images/web1.saved web1.xml
save-image-dumpxml /images/web1.saved
save-image-edit /images/web1.saved
schedinfo web1 --set cpu_shares=2048
screenshot web1 web1.png
secret-define secret.xml
secret-dumpxml 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
secret-event --event lifecycle --loop -o json
secret-get-value 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00 --plain
secret-list
secret-set-value 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00 --file value.base64
secret-undefine 0c8a7f0e-7e0f-4d0b-9d5a-3f6e5b2c1a00
send-key web1 KEY_LEFTCTRL KEY_LEFTALT KEY_DELETE
send-process-signal web1 1 term
set-lifecycle-action web1 crash restart
set-user-password web1 alice
set-user-sshkeys web1 alice --file id_ed25519.pub
setmaxmem web1 4G --config
setmem web1 2G --live
setvcpu web1 2 --enable --live
setvcpus web1 4 --live
shutdown web1 --mode agent
snapshot-create web1 snapshot.xml
snapshot-create-as web1 before
snapshot-current web1 --name
snapshot-delete web1 before
snapshot-dumpxml web1 before
snapshot-edit web1 before
snapshot-info web1 before
snapshot-list web1
snapshot-parent web1 before
snapshot-revert web1 before
start web1
suspend web1
sysinfo
ttyconsole web1
undefine web1 --nvram
update-device web1 disk.xml --live
update-memory-device web1 --alias ua-memory --requested-size 2G
uri
vcpucount web1 --maximum --live
vcpuinfo web1 -o json
vcpupin web1 0 0-3
version
vncdisplay web1
vol-clone web1.qcow2 web2.qcow2 --pool images
vol-create images volume.xml
vol-create-as images data.qcow2 20G --format qcow2
vol-create-from images volume.xml web1.qcow2
vol-delete web1.qcow2 --pool images
vol-download web1.qcow2 backup.qcow2 --pool images
vol-dumpxml web1.qcow2 --pool images
vol-info web1.qcow2 --pool images -o json
vol-key web1.qcow2 --pool images
vol-list images --details
vol-name /images/web1.qcow2
vol-path web1.qcow2 --pool images
vol-pool /images/web1.qcow2
vol-resize web1.qcow2 40G --pool images
vol-upload web1.qcow2 debian.qcow2 --pool images
vol-wipe web1.qcow2 --pool images
"""


def example(command: str) -> str:
    """The words of the example for a command, as for a shell."""
    return next(line for line in EXAMPLES.splitlines() if line.partition(" ")[0] == command)
