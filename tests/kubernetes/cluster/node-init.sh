#!/bin/sh
# node-init.sh DIRECTORY PAUSE NAME: the number 1 of a node, in namespaces of every kind of its own. It makes of this machine's
# tree the tree of a node: what kubelet, containerd and pods write goes to DIRECTORY or away with the node. Then it says that it
# is ready by a file and becomes PAUSE, which reaps what ends.
#
# DIRECTORY/cgroups has a line "VERSION MOUNT OPTIONS" for each hierarchy; DIRECTORY/etc has files for /etc.
set -eu
directory=$1 pause=$2 name=$3
trap 'echo "init: failed"' EXIT

hostname "$name"
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock /run/node /run/node-changes
mount --bind "$directory" /run/node

# Changes of these folders are the node's own, in memory.
for folder in etc opt var; do
  mkdir -p "/run/node-changes/$folder/upper" "/run/node-changes/$folder/work"
  mount -t overlay -o "lowerdir=/$folder,upperdir=/run/node-changes/$folder/upper,workdir=/run/node-changes/$folder/work" \
    overlay "/$folder"
done
# What this machine has of its own in these must not show; what is large is on the disk.
for folder in /etc/cni /opt/cni /var/lib/cni /var/lib/containerd /var/lib/kubelet /var/lib/weir /var/log/pods /var/log/containers; do
  mkdir -p "$folder" "/run/node$folder"
  mount --bind "/run/node$folder" "$folder"
done
for file in hosts hostname machine-id resolv.conf; do
  rm -f "/etc/$file"
  cp "/run/node/etc/$file" "/etc/$file"
done

# The devices of this network namespace, and the control groups with this node's at the root.
umount --recursive --lazy /sys
mount -t sysfs sysfs /sys
grep -q '^[12] /sys/fs/cgroup ' /run/node/cgroups || mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
while read -r version mount options; do
  mkdir -p "$mount"
  if [ "$version" = 1 ]; then
    mount -t cgroup -o "$options" cgroup "$mount"
    continue
  fi
  mount -t cgroup2 cgroup2 "$mount"
  # A group whose children have controllers may hold no processes itself. The shell that started this one may still be leaving.
  mkdir -p "$mount/system"
  echo 0 >"$mount/system/cgroup.procs"
  for controller in $(cat "$mount/cgroup.controllers"); do
    tries=0
    until echo "+$controller" >"$mount/cgroup.subtree_control"; do
      tries=$((tries + 1))
      [ "$tries" -lt 50 ] || exit 1
      sleep 0.1
    done
  done
done </run/node/cgroups
mount -t bpf bpf /sys/fs/bpf
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null || true
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null || true

# The kubelet sets these, which are the whole machine's: let it write files.
mkdir -p /run/node/sysctl
for setting in kernel/panic=10 kernel/panic_on_oops=1 vm/overcommit_memory=1 vm/panic_on_oom=0 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  path=${setting%=*} file=/run/node/sysctl/$(echo "${setting%=*}" | tr / .)
  [ -e "/proc/sys/$path" ] || continue
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/$path"
done

echo 1 >/proc/sys/net/ipv4/ip_forward
[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip link set lo up

# Mounts that a pod makes are the node's, and the other way round.
mount --make-rshared /
: >/run/node/ready
exec "$pause"
