/**
 * Names of pods, for programs inside the lab: a hosts file that is mounted over /etc/hosts in `lab exec` and for the
 * commands of pods.
 *
 * @module
 */
import type { Lab } from "./lab.ts";

/** The file's text: every pod as NAME and NAME.NAMESPACE, services as DNS would, nodes, the outside host. */
export function hostsText(lab: Lab): string {
  const lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost"];
  const add = (addresses: (string | undefined)[], names: string[]) => {
    for (const address of addresses) if (address) lines.push(`${address} ${names.join(" ")}`);
  };
  // A pod has the host's own name; a server that looks it up before it listens would wait for a DNS that is not there.
  add(["127.0.1.1"], [Deno.hostname()]);
  const { nodes, outside } = lab.options.topology;
  for (const node of nodes) add([node.ipv4, node.ipv6], [node.name]);
  add([outside.ipv4, outside.ipv6], ["outside"]);
  for (const pod of lab.pods) {
    const { name, namespace } = pod.manifest;
    // A name that two namespaces use means the pod of the default one; the others are NAME.NAMESPACE.
    const short = namespace === "default" ||
      !lab.pods.some((other) => other !== pod && other.manifest.name === name);
    const names = short ? [name, `${name}.${namespace}`] : [`${name}.${namespace}`];
    add([pod.endpoint?.status?.ipv4, pod.endpoint?.status?.ipv6], names);
  }
  const taken = new Set(lab.pods.map((pod) => pod.manifest.name));
  for (const { serviceName, namespace, clusterIps, type } of lab.services) {
    if (type === "HostPort") continue;
    // As the cluster's DNS would; a pod of the same name keeps the short one.
    const long = [`${serviceName}.${namespace}.svc`, `${serviceName}.${namespace}.svc.cluster.local`];
    const short = namespace === "default" && !taken.has(serviceName) ? [serviceName] : [];
    const middle = lab.pods.some((pod) => pod.name === `${namespace}/${serviceName}`)
      ? []
      : [`${serviceName}.${namespace}`];
    add(clusterIps, [...short, ...middle, ...long]);
  }
  return lines.join("\n") + "\n";
}

/** Writes the file in place: programs have it mounted and would not see another one. */
export async function writeHosts(lab: Lab, path: string): Promise<void> {
  await Deno.writeTextFile(path, hostsText(lab));
}

/** Words that run a command in a pod's namespace with the lab's names. */
export function enterPod(netns: string, hostsFile: string, command: string[]): string[] {
  return [
    "nsenter",
    `--net=/run/netns/${netns}`,
    "--",
    "unshare",
    "--mount",
    "sh",
    "-c",
    'mount --bind "$0" /etc/hosts && exec "$@"',
    hostsFile,
    ...command,
  ];
}
