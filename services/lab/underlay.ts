/**
 * Makes and removes the namespaces of a lab: the bridge, the nodes, the outside host, pods.
 *
 * @module
 */
import { enter, ipBatch, run } from "./command.ts";
import { namespacePrefix, type Topology } from "./topology.ts";

/** Creates every namespace of the topology and joins them. Throws `CommandError`; `removeNamespaces` cleans up after. */
export async function createUnderlay(topology: Topology): Promise<void> {
  const machines = [...topology.nodes, topology.outside];
  await ipBatch(
    [topology.underlayNetns, ...machines.map((machine) => machine.netns)].map((n) => `netns add ${n}`),
  );
  await ipBatch(
    [
      "link set lo up",
      "link add br0 type bridge stp_state 0 mcast_snooping 0",
      "link set br0 up",
      ...machines.flatMap((machine, index) => [
        `link add port${index} mtu 1500 type veth peer name eth0 netns ${machine.netns}`,
        `link set port${index} master br0 up`,
      ]),
    ],
    topology.underlayNetns,
  );
  await Promise.all(machines.map(async (machine) => {
    const isOutside = machine.netns === topology.outside.netns;
    // Forwarding is set before addresses: turning it on later would drop the IPv6 default route.
    await sysctl(machine.netns, {
      "net.ipv4.ip_forward": 1,
      "net.ipv6.conf.all.forwarding": 1,
      "net.ipv6.conf.eth0.accept_dad": 0,
      "net.ipv4.ping_group_range": "0 2147483647",
    });
    await ipBatch(
      [
        "link set lo up",
        "link set eth0 up",
        `address add ${machine.ipv4}/${topology.underlayPrefixLengthV4} dev eth0`,
        `address add ${machine.ipv6}/${topology.underlayPrefixLengthV6} dev eth0 nodad`,
        ...(isOutside
          ? [
            ...topology.outside.worldIpv4.map((address) => `address add ${address}/32 dev lo`),
            ...topology.outside.worldIpv6.map((address) => `address add ${address}/128 dev lo nodad`),
          ]
          : [
            `route add default via ${topology.outside.ipv4}`,
            `route add ::/0 via ${topology.outside.ipv6}`,
          ]),
      ],
      machine.netns,
    );
  }));
}

/** Creates the empty namespace of a pod, with only its loopback up. */
export async function createPodNamespace(netns: string): Promise<void> {
  await ipBatch([`netns add ${netns}`]);
  await ipBatch(["link set lo up"], netns);
  await sysctl(netns, { "net.ipv4.ping_group_range": "0 2147483647" });
}

/** Sets kernel parameters of a namespace. */
export async function sysctl(netns: string, values: Record<string, number | string>): Promise<void> {
  // One shell for all of them: each is a file that exists only inside the namespace.
  const script = Object.entries(values)
    .map(([name, value]) => `echo '${value}' > /proc/sys/${name.replaceAll(".", "/")}`).join("\n");
  const [program, ...args] = enter(netns, ["sh", "-e", "-s"]);
  await run(program, args, script + "\n");
}

/** Lets the outside host reach the pods of a node without translation. */
export async function routePodCidr(topology: Topology, cidr: string, nodeAddress: string): Promise<void> {
  await ipBatch([`route replace ${cidr} via ${nodeAddress}`], topology.outside.netns);
}

/** Names of the namespaces of a lab that exist now. */
export async function labNamespaces(lab: string): Promise<string[]> {
  const prefix = namespacePrefix(lab);
  const names: string[] = [];
  try {
    for await (const entry of Deno.readDir("/run/netns")) {
      if (entry.name.startsWith(prefix)) names.push(entry.name);
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return names.sort();
}

/** Process ids whose network namespace is one of these; how `down` finds what was left running. */
export async function processesIn(netnsNames: string[]): Promise<number[]> {
  const pids = await Promise.all(
    netnsNames.map(async (name) => {
      try {
        return await run("ip", ["netns", "pids", name]);
      } catch {
        return ""; // gone meanwhile
      }
    }),
  );
  return [...new Set(pids.join("\n").split("\n").filter((line) => line !== "").map(Number))];
}

/** Deletes these namespaces; devices in them go with them. Repeatable. */
export async function removeNamespaces(names: string[]): Promise<void> {
  for (const name of names) {
    try {
      await run("ip", ["netns", "delete", name]);
    } catch (error) {
      if (await exists(`/run/netns/${name}`)) throw error;
    }
  }
}

async function exists(path: string): Promise<boolean> {
  return await Deno.lstat(path).then(() => true, () => false);
}
