/** A node: its files, its namespaces, its device, containerd and the kubelet. @module */
import { kubeconfig, pki } from "./certificates.ts";
import type { Cgroups } from "./cgroups.ts";
import type { Cache } from "./layout.ts";
import { Namespaces, type Started } from "./namespaces.ts";
import { both, type ClusterOptions, NETWORK, nodeAddresses, nodeName } from "./options.ts";
import { ok, run, waitFor } from "./process.ts";
import { IMAGES } from "../parts/images.ts";
import { copyStore, snapshotterFor } from "../parts/store.ts";

const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";

export interface NodeSurroundings {
  cluster: Namespaces;
  cgroups: Cgroups;
  /** Folder of the cluster. */
  directory: string;
  options: ClusterOptions;
  cache: Cache;
}

/** Makes node `index` and starts containerd on it. */
export async function makeNode(index: number, surroundings: NodeSurroundings): Promise<Namespaces> {
  await writeFiles(`${surroundings.directory}/${nodeName(index)}`, index, surroundings);
  return await bootNode(index, surroundings);
}

/** Ends all that runs on node `index` at once, as the loss of its power does: namespaces, devices and memory go, its disk stays. */
export async function haltNode(
  index: number,
  { cluster, cgroups, directory }: NodeSurroundings,
): Promise<void> {
  await cgroups.removeNode(index);
  await Deno.remove(`${directory}/${nodeName(index)}/ready`).catch(() => {});
  const port = cluster.words(["ip", "link", "show", `port${index}`]);
  await waitFor(`the network of ${nodeName(index)} to go`, async () => (await run(port)).code !== 0);
}

/** Starts node `index` from what is on its disk. */
export async function bootNode(index: number, surroundings: NodeSurroundings): Promise<Namespaces> {
  const { cluster, cgroups, directory, options, cache } = surroundings;
  const own = `${directory}/${nodeName(index)}`;
  cgroups.makeNode(index);
  const groups = { first: cgroups.node(index), later: cgroups.nodeSystem(index) };
  const node = await Namespaces.makeNode(cluster, own, groups, cache, nodeName(index));
  await connect(index, node, cluster, options);
  const containerd = await node.start("containerd", ["containerd", "--config", "/run/node/containerd.toml"]);
  await waitFor("containerd", async () => {
    await ok(node.words(["ctr", "version"]), { seconds: 20 });
    return true;
  }, { inVain: () => node.inVain(containerd) });
  return node;
}

/** Starts the kubelet, which registers the node. */
export function startKubelet(index: number, node: Namespaces, options: ClusterOptions): Promise<Started> {
  return node.start("kubelet", [
    ...["kube", "kubelet", "--config=/run/node/kubelet.json", "--kubeconfig=/run/node/kubeconfig", "--v=2"],
    ...[`--hostname-override=${nodeName(index)}`, `--node-ip=${nodeAddresses(index, options).join(",")}`],
    ...["--root-dir=/var/lib/kubelet", "--cert-dir=/var/lib/kubelet/pki"],
  ]);
}

/** Files of a node. Paths in them are those inside the node, where its folder is /run/node. */
async function writeFiles(
  own: string,
  index: number,
  { cgroups, directory, options, cache }: NodeSurroundings,
): Promise<void> {
  await Deno.mkdir(`${own}/etc`, { recursive: true });
  await Deno.mkdir(`${own}/opt/cni/bin`, { recursive: true });
  for (const { name } of Deno.readDirSync(`${cache.bin}/cni`)) {
    await Deno.copyFile(`${cache.bin}/cni/${name}`, `${own}/opt/cni/bin/${name}`);
  }
  await Deno.mkdir(`${own}/var/lib`, { recursive: true });
  await copyStore(cache, `${own}/var/lib/containerd`, cgroups.controlPlane());
  await Deno.copyFile(kubeconfig(directory, nodeName(index)), `${own}/kubeconfig`);
  await Deno.copyFile(`${pki(directory)}/ca.crt`, `${own}/ca.crt`);
  const hosts = [
    "127.0.0.1 localhost",
    ...nodeAddresses(index, options).map((a) => `${a} ${nodeName(index)}`),
  ];
  const files: Record<string, string> = {
    cgroups: cgroups.hierarchies.map((h) => `${h.version} ${h.mount} ${h.options}\n`).join(""),
    "containerd.toml": containerdConfig(await snapshotterFor(cache)),
    "kubelet.json": JSON.stringify(kubeletConfig(), undefined, 2),
    "etc/hostname": `${nodeName(index)}\n`,
    "etc/hosts": `${hosts.join("\n")}\n`,
    "etc/machine-id": `${crypto.randomUUID().replaceAll("-", "")}\n`,
    // No name server is reachable from here; one that is not there is asked for seconds.
    "etc/resolv.conf": "",
  };
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${own}/${name}`, text);
}

/** The node's device eth0 on the cluster's bridge. */
async function connect(
  index: number,
  node: Namespaces,
  cluster: Namespaces,
  options: ClusterOptions,
): Promise<void> {
  const port = `port${index}`, far = ["type", "veth", "peer", "name", "eth0", "netns", String(node.pid)];
  await ok(cluster.words(["ip", "link", "add", port, ...far]));
  await ok(cluster.words(["ip", "link", "set", port, "master", "br0", "up"]));
  const { ipv4, ipv6 } = NETWORK.underlay;
  const [first, second] = nodeAddresses(index, options);
  const commands = [
    `ip addr add ${first}/24 dev eth0`,
    "ip link set eth0 up",
    `ip route add default via ${ipv4}.1`,
  ];
  if (second) {
    commands.push(`ip addr add ${second}/64 dev eth0 nodad`, `ip -6 route add default via ${ipv6}1`);
  }
  await ok(node.words(["sh", "-ec", commands.join("\n")]));
}

function containerdConfig(snapshotter: "overlayfs" | "native"): string {
  const unused = ["btrfs", "zfs", "aufs", "devmapper"].map((name) => `io.containerd.snapshotter.v1.${name}`);
  const cri = 'plugins."io.containerd.grpc.v1.cri"';
  return `version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ${JSON.stringify([...unused, "io.containerd.internal.v1.opt"])}
[grpc]
  address = "${CONTAINERD_SOCKET}"
[${cri}]
  sandbox_image = "${IMAGES.pause}"
  # Lowering a score needs CAP_SYS_RESOURCE, which containers of machines often lack.
  restrict_oom_score_adj = true
[${cri}.cni]
  bin_dir = "/opt/cni/bin"
  conf_dir = "/etc/cni/net.d"
[${cri}.containerd]
  snapshotter = "${snapshotter}"
  default_runtime_name = "runc"
[${cri}.containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[${cri}.containerd.runtimes.runc.options]
  SystemdCgroup = false
`;
}

function kubeletConfig(): Record<string, unknown> {
  return {
    apiVersion: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    cgroupDriver: "cgroupfs",
    failCgroupV1: false,
    failSwapOn: false,
    containerRuntimeEndpoint: `unix://${CONTAINERD_SOCKET}`,
    authentication: {
      anonymous: { enabled: false },
      webhook: { enabled: true },
      x509: { clientCAFile: "/run/node/ca.crt" },
    },
    authorization: { mode: "Webhook" },
    clusterDNS: [NETWORK.dns],
    clusterDomain: "cluster.local",
    resolvConf: "/etc/resolv.conf",
    // The disk is this machine's, and images that were imported cannot be pulled again.
    evictionHard: { "memory.available": "100Mi", "nodefs.available": "1%", "imagefs.available": "1%" },
    imageGCHighThresholdPercent: 100,
    imageGCLowThresholdPercent: 99,
    nodeStatusUpdateFrequency: "5s",
  };
}

/** What the reference's kube-proxy is told. Sysctls that are the whole machine's are left alone. */
export async function startKubeProxy(
  index: number,
  node: Namespaces,
  directory: string,
  options: ClusterOptions,
): Promise<void> {
  const own = `${directory}/${nodeName(index)}`;
  await Deno.copyFile(kubeconfig(directory, "kube-proxy"), `${own}/kube-proxy.kubeconfig`);
  await node.start("kube-proxy", [
    ...["kube", "kube-proxy", "--kubeconfig=/run/node/kube-proxy.kubeconfig", "--proxy-mode=iptables"],
    ...[`--hostname-override=${nodeName(index)}`, `--cluster-cidr=${both(NETWORK.pods, options.dualStack)}`],
    ...[
      "--conntrack-max-per-core=0",
      "--conntrack-tcp-timeout-established=0",
      "--conntrack-tcp-timeout-close-wait=0",
    ],
  ]);
}
