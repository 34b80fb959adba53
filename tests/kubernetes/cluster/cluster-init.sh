#!/bin/sh
# cluster-init.sh DIRECTORY PAUSE: the number 1 of a cluster, in mounts, network and process numbers of its own. It makes the
# network between the nodes, says that it is ready by a file, and becomes PAUSE, which reaps what ends.
set -eu
directory=$1 pause=$2
trap 'echo "init: failed"' EXIT

mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/netns /run/lock "$directory/etcd"
# etcd syncs every write: on a disk that others use it would be the slowest part.
mount -t tmpfs -o mode=700 tmpfs "$directory/etcd"

echo 1 >/proc/sys/net/ipv4/ip_forward
[ ! -e /proc/sys/net/ipv6 ] || echo 1 >/proc/sys/net/ipv6/conf/all/forwarding
ip link set lo up
ip link add br0 type bridge
ip link set br0 up

: >"$directory/ready"
exec "$pause"
