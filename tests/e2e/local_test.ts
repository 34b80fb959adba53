/**
 * A lab of one node and its outside: the host through a rule for the world, with an agent that follows the node's addresses, and
 * flows that name who it was; policies with other prefixes, one after the other, under a flood.
 * @module
 */
import assert from "node:assert/strict";
import { signal } from "../faults/faulty_lab.ts";
import { until } from "@weir/common/testing/until";
import { at, client } from "./service.ts";
import { canRun, Lab } from "./weir.ts";

const lab = new Lab(`loc${Deno.pid}`);
const POD = { pod: "shop/client" }, NODE = { node: "node-1" };
const PORT = 7777;

/** Takes datagrams at a port of the host, from when it has answered a greeting until it is told to end. */
const EAR = `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('0.0.0.0',${PORT})); heard=set()
while True:
    said,who=s.recvfrom(100)
    if said==b'end': break
    if said==b'hello': s.sendto(said,who)
    else: heard.add(said.decode())
print(' '.join(sorted(heard)))
`;
/** Greets what listens at the port of its own host, until it answers. */
const GREET = `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(0.2)
while True:
    s.sendto(b'hello',('127.0.0.1',${PORT}))
    try: s.recv(100); break
    except TimeoutError: pass
`;
const SAY = `import socket,sys,time
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)
for _ in range(3):
    for to in sys.argv[1:]:
        s.sendto(to.encode(),(to,${PORT}))
    time.sleep(0.3)
`;
const policy = (egress: string) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: out, namespace: shop }\n` +
  `spec: { endpointSelector: { matchLabels: { app: client } }, egress: [${egress}] }\n`;

/** Which of the addresses the host's socket heard from the pod. */
async function heard(...addresses: string[]): Promise<string[]> {
  const ear = at(lab, NODE, ["python3", "-c", EAR]);
  await node("python3", "-c", GREET);
  const said = await at(lab, POD, ["python3", "-c", SAY, ...addresses]);
  assert.equal(said.code, 0, said.err);
  await node("python3", "-c", TELL, "end");
  const { code, out, err } = await ear;
  assert.equal(code, 0, err);
  return out.trim().split(" ").filter((text) => text !== "");
}
async function node(...command: string[]): Promise<void> {
  const ran = await at(lab, NODE, command);
  assert.equal(ran.code, 0, ran.err);
}

/** Addresses outside: every policy of the flood denies the first and allows the second. */
const DENIED = "172.30.0.100", ALLOWED = "172.30.0.110";
/** Answers a greeting, counts, and hands on the word to halt. Ends with "end": "DENIED ALLOWED" datagrams that came. */
const COUNT = `import socket
s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.setsockopt(socket.SOL_SOCKET,33,1<<25); s.bind(('0.0.0.0',${PORT}))
denied=0; allowed=set(); halt=False
while True:
    said,who=s.recvfrom(100)
    if said==b'end': break
    elif said==b'halt': halt=True
    elif said==b'hello': s.sendto(said,who)
    elif said==b'denied': denied+=1
    else:
        allowed.add(said)
        if halt: s.sendto(b'halt',who)
print(denied,len(allowed))
`;
/** Sends to both addresses, to the second from a new port each time, until it hears "halt": "DENIED ALLOWED" that were sent. */
const FLOOD = `import collections,select,socket
new=lambda: socket.socket(socket.AF_INET,socket.SOCK_DGRAM)
many=[new() for _ in range(64)]; last=collections.deque(maxlen=256); denied=allowed=0
first=new(); first.settimeout(0.2)
while True:
    first.sendto(b'hello',('${ALLOWED}',${PORT}))
    try: first.recv(100); break
    except TimeoutError: pass
while True:
    for s in many:
        s.sendto(b'denied',('${DENIED}',${PORT})); denied+=1
    s=new(); s.sendto(str(allowed).encode(),('${ALLOWED}',${PORT})); allowed+=1
    last.append(s)
    if select.select(last,[],[],0.002)[0]: break
print(denied,allowed)
`;
const TELL = `import socket,sys
socket.socket(socket.AF_INET,socket.SOCK_DGRAM).sendto(sys.argv[1].encode(),('127.0.0.1',${PORT}))
`;

async function kill(...roles: string[]): Promise<void> {
  const [listed] = JSON.parse(await lab.ok(["lab", "list", "-o", "json"]));
  // (One that is being started anew has no number.)
  for (const { role, pid } of listed.processes) if (roles.includes(role) && pid > 0) signal(pid, "SIGKILL");
}

if (canRun) {
  Deno.test.beforeAll(async () => {
    const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: { name: shop }\n";
    await lab.up(1, [namespace, client("client", 1)].join("---\n"), ["--agent", "vlan-allow=100"]);
  });
  Deno.test.afterAll(() => lab.down());
}

Deno.test({
  name:
    "A rule for the world reaches the host by no address, one that it just got included; flows say whom they were for",
  ignore: !canRun,
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const many = ["224.0.0.1", "255.255.255.255"];
    await node("ip", "address", "add", "169.254.3.4/32", "scope", "link", "dev", "lo");
    assert.deepEqual(
      await heard("169.254.3.4", ...many),
      ["169.254.3.4", ...many].sort(),
      "without a policy",
    );
    await lab.apply(policy("{ toEntities: [world] }, { toCIDR: [128.0.0.0/1, 224.0.0.0/4] }"));
    await node("ip", "address", "add", "203.0.113.5/32", "dev", "lo");
    assert.deepEqual(await heard("203.0.113.5", "169.254.3.4", ...many), []);
    for (
      const [ip, label] of [["224.0.0.1", "multicast"], ["255.255.255.255", "broadcast"], [
        "203.0.113.5",
        "host",
      ]]
    ) {
      const flow = await lab.flow(
        `a drop for ${label}`,
        (f) => f.verdict === "DROPPED" && f.destination?.labels?.includes(`reserved:${label}`) === true,
        "--to-ip",
        ip,
      );
      assert.equal(flow.drop_reason_desc, "POLICY_DENIED");
    }
    await lab.apply(policy("{ toEntities: [multicast] }"));
    assert.deepEqual(await heard("203.0.113.5", ...many), ["224.0.0.1"]);
    await lab.apply(policy("{ toEntities: [broadcast, host] }"));
    assert.deepEqual(await heard("203.0.113.5", ...many), ["203.0.113.5", "255.255.255.255"]);
    const explained = await lab.ok([
      "policy",
      "explain",
      "--from",
      "client",
      "-n",
      "shop",
      "--to",
      "239.1.2.3",
      "--port",
      "5353/UDP",
    ])
      .catch((error) => `${error}`);
    assert.match(explained, /multicast|Denied/);
  },
});

Deno.test({
  name: "The VLANs that an agent lets through are in the kernel of its node",
  ignore: !canRun,
  fn: () =>
    until("weir_vlans has VLAN 100", async () => {
      const dump = await lab.ok([
        "lab",
        "exec",
        "--node",
        "node-1",
        "--",
        "sh",
        "-c",
        "ls /sys/fs/bpf/weir/*/maps/weir_vlans",
      ]);
      return dump.includes("weir_vlans");
    }),
});

Deno.test({
  name:
    "While policies with other prefixes replace each other, through kill -9 too, what both deny never passes and what both allow always does",
  ignore: !canRun,
  sanitizeOps: false,
  sanitizeResources: false,
  fn: async () => {
    const outside = (...command: string[]) => at(lab, "outside", command);
    const spec = (text: string) =>
      "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: out, namespace: shop }\n" +
      `spec: { endpointSelector: { matchLabels: { app: client } }, ${text} }\n`;
    const closed = spec(`egress: [{ toCIDR: [${ALLOWED}/32] }]`);
    const open = spec(`egress: [{ toEntities: [world] }], egressDeny: [{ toCIDR: [${DENIED}/30] }]`);
    const excepting = spec(`egress: [{ toCIDRSet: [{ cidr: 172.30.0.0/25, except: [${DENIED}/31] }] }]`);
    const device = /dev (\S+)/.exec((await outside("ip", "-4", "route", "get", "172.30.0.11")).out)?.[1];
    const added = await outside("ip", "address", "add", `${ALLOWED}/24`, "dev", device ?? "eth0");
    assert.equal(added.code, 0, added.err);
    await lab.apply(closed);
    const count = outside("python3", "-c", COUNT);
    const flood = at(lab, POD, ["python3", "-c", FLOOD]);
    try {
      for (const victims of [[], ["endpoint-manager"], [], ["datapath"], ["datapath", "endpoint-manager"]]) {
        // The next policy comes while those who give it to the kernel are gone.
        await kill(...victims);
        for (const next of [open, closed, open, excepting, closed]) {
          await lab.ok(["policy", "apply", "-f", "-"], next);
        }
      }
    } finally {
      await outside("python3", "-c", TELL, "halt");
    }
    const sent = await flood;
    await outside("python3", "-c", TELL, "end");
    const came = await count;
    assert.deepEqual([sent.code, came.code], [0, 0], sent.err + came.err);
    const [deniedSent, allowedSent] = sent.out.trim().split(" ").map(Number);
    const [denied, allowed] = came.out.trim().split(" ").map(Number);
    console.log(`sent ${deniedSent} denied and ${allowedSent} allowed, ${denied} and ${allowed} came`);
    assert.equal(denied, 0, `${denied} of ${deniedSent} datagrams passed that every policy denies`);
    assert.equal(allowed, allowedSent, "datagrams that every policy allows were lost");
  },
});
