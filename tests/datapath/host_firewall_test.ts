/** The node's own traffic, judged by a policy for the host, on real devices and sockets: both families, both directions. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { Cluster, OUTSIDE, type Place, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import type { Policy, Rule, TestNode } from "./node.ts";
import { address, TCP, UDP } from "./packet.ts";

const NODE = ["192.0.2.1", "2001:db8::1"], OTHER = ["192.0.2.2", "2001:db8::2"];
const FAR = ["10.0.2.10", "fd00:2::10"],
  GATEWAY = ["10.0.1.1", "fd00:1::1"];
const HOST = abi.ENDPOINT_HOST,
  REMOTE_NODE = 6,
  POLICY_DENIED = 133,
  INVALID_IDENTITY = 171,
  ERROR_OF_NO_FLOW = 244;
const KINDS = ["tcp", "udp"] as const;

async function cluster(mode: number, use: (made: Cluster, node: TestNode) => Promise<void>): Promise<void> {
  const made = await Cluster.open(mode);
  try {
    await use(made, made.nodes[0]);
  } finally {
    await made.close();
  }
}
let slots = 100;
/** The policy of node 1's host from now on, as the datapath puts it in force. */
function guard(node: TestNode, rules: Rule[], of: Partial<Policy> = {}): void {
  const slot = slots++;
  node.setPolicy(slot, {
    enforceIngress: true,
    enforceEgress: true,
    ingressCookie: 901,
    egressCookie: 902,
    ...of,
    rules,
  });
  const first = !node.hostGuarded;
  node.addEndpoint({ id: HOST, ifindex: 0, identity: 1, policy: slot, flags: 0 });
  if (first) node.revise(address("::"), 0);
}
const CLIENT = new URL("testdata/peer_client.py", import.meta.url).pathname;
/** Asks in vain. @returns what node 1 dropped meanwhile */
async function denied(
  made: Cluster,
  place: Place,
  kind: string,
  host: string,
  port: number,
): Promise<abi.Event[]> {
  made.nodes[0].drainEvents();
  const { code, text } = await made.in(place, "python3", CLIENT, "1", kind, host, `${port}`, "100");
  assert.notEqual(code, 0, `${kind} ${place} to ${host}:${port}: ${text}`);
  return made.nodes[0].drainEvents().filter((e) => e.type === abi.EVENT_DROP);
}
const SAY = new URL("testdata/say.py", import.meta.url).pathname;
/** A datagram with another's address or to many. @returns whether it was answered, and the reasons for which node 1 dropped meanwhile */
async function say(
  made: Cluster,
  [place, source, sourcePort]: readonly [Place, string, number],
  host: string,
  port: number,
  patience = "1",
  mark = 0,
): Promise<{ answered: boolean; text: string; drops: abi.Event[] }> {
  made.nodes[0].drainEvents();
  const args = [SAY, patience, source, sourcePort, host, port, mark].map(String);
  const { code, text } = await made.in(place, "python3", ...args);
  const drops = made.nodes[0].drainEvents().filter((e) => e.type === abi.EVENT_DROP);
  return { answered: code === 0, text, drops };
}
const allow = (direction: Rule["direction"], rule: Partial<Rule> = {}): Rule =>
  ({ direction, ...rule }) as Rule;
const port = (direction: Rule["direction"], number: number, rule: Partial<Rule> = {}): Rule[] =>
  [TCP, UDP].map((protocol) => allow(direction, { protocol, port: number, ...rule }));

for (const [what, mode] of [["tunnel", abi.CONFIG_TUNNEL], ["direct routing", abi.CONFIG_DIRECT]] as const) {
  kernelTest(
    `host firewall: only what a policy for the host allows comes in and goes out, with ${what}`,
    () =>
      cluster(mode, async (made, node) => {
        for (const place of ["node1", "node2", "outside", "pod2"] as const) await made.serve(place, 8080);
        for (const place of ["node1", "outside"] as const) await made.serve(place, 9090);
        for (const family of [0, 1]) {
          const open = await made.ask("outside", "tcp", NODE[family], 9090);
          assert.ok(open.ok, open.text);
        }
        assert.equal(node.flows().filter(({ key }) => key.scope === abi.CT_SCOPE_HOST).length, 0);
        guard(node, [...port("ingress", 8080, { cookie: 11 }), ...port("egress", 8080, { cookie: 12 })]);
        for (const family of [0, 1]) {
          for (const kind of KINDS) {
            for (
              const [place, host, number, ok] of [
                ["outside", NODE[family], 8080, true],
                ["outside", NODE[family], 9090, false],
                ["node2", NODE[family], 8080, true],
                ["node2", NODE[family], 9090, false],
                ["node1", WORLD[family], 8080, true],
                ["node1", OUTSIDE[family], 9090, false],
                ["node1", FAR[family], 8080, true],
                ["node1", OTHER[family], 8080, true],
                ["pod2", NODE[family], 8080, true],
                ["pod2", NODE[family], 9090, false],
                ["pod2", GATEWAY[family], 9090, false],
                ["pod1", NODE[family], 8080, true],
                ["pod1", NODE[family], 9090, false],
                ["pod1", GATEWAY[family], 9090, false],
              ] as const
            ) {
              const told = `${kind} ${place} to ${host}:${number}`;
              if (ok) {
                const asked = await made.ask(place, kind, host, number);
                assert.ok(asked.ok, `${told}: ${asked.text}`);
                continue;
              }
              const drops = await denied(made, place, kind, host, number);
              assert.ok(drops.length > 0, told);
              for (const drop of drops) {
                assert.equal(drop.subtype, POLICY_DENIED, told);
                const isOut: boolean = place === "node1";
                assert.equal(isOut ? drop.sourceIdentity : drop.destinationIdentity, 1, told);
                assert.equal(isOut ? drop.egressCookie : drop.ingressCookie, isOut ? 902 : 901, told);
              }
            }
          }
          // The pods are no host: what they send and get is as it was.
          const pods = await made.ask("pod1", "tcp", FAR[family], 8080);
          assert.ok(pods.ok, pods.text);
          const ping = await made.in("outside", "ping", "-c", "1", "-W", "1", NODE[family]);
          assert.notEqual(ping.code, 0, "a ping that no rule allows");
        }
      }),
  );
}

kernelTest(
  "host firewall: a rule is for who it says, a deny wins, and one direction leaves the other open",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made, node) => {
      for (const place of ["node1", "outside"] as const) await made.serve(place, 8080);
      guard(node, [
        allow("ingress", { identity: REMOTE_NODE }),
        allow("ingress", { identity: 1002, protocol: TCP, port: 8080 }),
        allow("ingress", { identity: 1002, protocol: TCP, port: 9090, deny: true }),
      ], { enforceEgress: false });
      for (const family of [0, 1]) {
        for (
          const [place, host, ok] of [
            ["outside", NODE[family], false],
            ["node2", NODE[family], true],
            ["pod2", NODE[family], true],
            ["pod1", NODE[family], false],
            ["node1", OUTSIDE[family], true],
          ] as const
        ) {
          const asked = await made.ask(place, "tcp", host, 8080, { denied: !ok });
          assert.equal(asked.ok, ok, `${place} to ${host}: ${asked.text}`);
        }
        const ping = await made.in("node1", "ping", "-c", "1", "-W", "20", OUTSIDE[family]);
        assert.equal(ping.code, 0, ping.text + made.drops());
        const large = await made.in("node1", "ping", "-c", "1", "-W", "20", "-s", "4000", OUTSIDE[family]);
        assert.equal(large.code, 0, large.text + made.drops());
      }
      // Nothing is judged when the policy is gone.
      node.changeEndpoint(HOST, { policy: 0 });
      node.revise(address("::"), 0);
      for (const place of ["outside", "pod1"] as const) {
        const asked = await made.ask(place, "tcp", NODE[0], 8080);
        assert.ok(asked.ok, asked.text);
      }
    }),
);

/** A row of the fail-safe list. */
function failsafe(
  node: TestNode,
  [kind, protocol, egress, port]: readonly [number, number, boolean, number],
  more: Partial<abi.Failsafe> & { address?: string } = {},
): () => number {
  const { address: text = "::", ...rest } = more;
  const key = abi.FailsafeKey.encode({ address: address(text), port, protocol, egress: egress ? 1 : 0 });
  const value = { passed: 0n, kind, flags: 0, portSource: 0, ...rest };
  node.map("weir_failsafe").update(key, abi.Failsafe.encode(value));
  return () => Number(abi.Failsafe.decode(node.map("weir_failsafe").lookup(key)!).passed);
}
/** Talks over one connection until the test is over: each line that the other end heard is counted. */
class Talk implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #reader: ReadableStreamDefaultReader<Uint8Array>;
  constructor(made: Cluster, place: Place, host: string, port: number) {
    this.#child = new Deno.Command("ip", {
      args: [
        "netns",
        "exec",
        made.netns(place),
        "python3",
        CLIENT,
        "20",
        "tcp",
        host,
        `${port}`,
        "100",
        "0",
        "1000000",
      ],
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#reader = this.#child.stdout.getReader();
  }
  /** Resolves when it has heard more; false when the connection is over. */
  async hears(): Promise<boolean> {
    for (let i = 0; i < 3; i++) {
      const { value, done } = await this.#reader.read();
      if (done || new TextDecoder().decode(value).includes("error")) return false;
    }
    return true;
  }
  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#reader.cancel();
    await this.#child.status;
  }
}

kernelTest(
  "host firewall: the fail-safe list lets by what a deny of everything forbids, and only that",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made, node) => {
      for (const port of [22, 8080]) await made.serve("node1", port);
      for (const port of [7441, 8080]) await made.serve("node2", port);
      const everything = (["ingress", "egress"] as const).map((direction) =>
        allow(direction, { deny: true })
      );
      const ssh = failsafe(node, [abi.FAILSAFE_SSH, TCP, false, 22], { flags: abi.FAILSAFE_ESTABLISHED });
      const plane = failsafe(node, [abi.FAILSAFE_CONTROL_PLANE, TCP, true, 7441], { address: OTHER[0] });
      const nodes = failsafe(node, [abi.FAILSAFE_HEALTH, UDP, false, 8080], { flags: abi.FAILSAFE_NODES });
      await using open = new Talk(made, "outside", NODE[0], 22);
      await using other = new Talk(made, "outside", NODE[0], 8080);
      assert.ok(await open.hears() && await other.hears());
      guard(node, everything);
      assert.ok(await open.hears(), made.drops());
      assert.ok(ssh() >= 1, "counted");
      // Again, as another policy comes: what is open stays so.
      guard(node, everything);
      for (let i = 0; i < 20; i++) assert.ok(await open.hears(), made.drops());
      // Nobody opens a new one, nor goes on with another port.
      assert.equal((await denied(made, "outside", "tcp", NODE[0], 22)).length > 0, true);
      assert.equal((await denied(made, "outside", "tcp", NODE[1], 22)).length > 0, true);
      assert.equal((await denied(made, "outside", "tcp", NODE[0], 8080)).length > 0, true);
      const asked = await made.ask("node1", "tcp", OTHER[0], 7441);
      assert.ok(asked.ok, asked.text);
      assert.equal(plane(), 1);
      const verdict = node.drainEvents().findLast((e) => e.type === abi.EVENT_POLICY_VERDICT);
      assert.equal(verdict?.egressCookie, abi.FAILSAFE_CONTROL_PLANE);
      // Of the address, not of whoever else is there.
      assert.ok((await denied(made, "node1", "tcp", OTHER[1], 7441)).length > 0);
      assert.ok((await denied(made, "node1", "tcp", OTHER[0], 8080)).length > 0);
      const node2 = await made.ask("node2", "udp", NODE[0], 8080);
      assert.ok(node2.ok, node2.text);
      assert.equal(nodes(), 1);
      assert.ok((await denied(made, "outside", "udp", NODE[0], 8080)).length > 0, "who is no node");
      // Pods of both nodes go on: they are no hosts.
      await made.serve("pod2", 8080);
      for (const family of [0, 1]) {
        const pods = await made.ask("pod1", "tcp", FAR[family], 8080);
        assert.ok(pods.ok, pods.text);
      }
    }),
);

kernelTest(
  "host firewall: a connection that is older than the policy goes on where the policy allows who opened it",
  () =>
    cluster(abi.CONFIG_DIRECT, async (made, node) => {
      await made.serve("outside", 8080);
      await made.serve("node1", 8080);
      await using out = new Talk(made, "node1", OUTSIDE[0], 8080);
      await using into = new Talk(made, "outside", NODE[1], 8080);
      assert.ok(await out.hears() && await into.hears());
      // Only what the host asks: its answers come by no rule.
      guard(node, port("egress", 8080));
      for (let i = 0; i < 10; i++) assert.ok(await out.hears(), made.drops());
      // Somebody's packets in mid-stream of a connection that no socket has are nobody's answers.
      guard(node, [...port("egress", 8080), ...port("ingress", 8080)]);
      await using again = new Talk(made, "outside", NODE[0], 8080);
      assert.ok(await again.hears());
      guard(node, port("ingress", 8080));
      for (let i = 0; i < 10; i++) assert.ok(await again.hears(), made.drops());
      const ping = await made.in("outside", "ping", "-c", "1", "-W", "1", NODE[0]);
      assert.notEqual(ping.code, 0);
    }),
);

kernelTest(
  "host firewall: masqueraded pods and node ports for pods are not the host's, nor what it passes on",
  () =>
    cluster(abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6, async (made, node) => {
      await made.serve("outside", 8080);
      const everything = (["ingress", "egress"] as const).map((direction) =>
        allow(direction, { deny: true })
      );
      guard(node, everything);
      for (const family of [0, 1]) {
        const out = await made.ask("pod1", "tcp", WORLD[family], 8080);
        assert.ok(out.ok, out.text);
        assert.equal(out.peer, NODE[family]);
        assert.ok((await denied(made, "node1", "tcp", WORLD[family], 8080)).length > 0);
        const large = await made.in("pod1", "ping", "-c", "1", "-W", "20", "-s", "4000", WORLD[family]);
        assert.equal(large.code, 0, large.text + made.drops());
      }
    }),
);

kernelTest(
  "host firewall: what a pod sends to many is judged where the host hears it",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made, node) => {
      node.setAddress("192.0.2.255", { endpoint: 0, flags: abi.ADDRESS_BROADCAST });
      for (const port of [8080, 9090]) await made.serve("node1", port);
      const many = [
        ["224.0.0.1", "10.0.1.10", abi.IDENTITY_MULTICAST],
        ["255.255.255.255", "10.0.1.10", abi.IDENTITY_BROADCAST],
        ["192.0.2.255", "10.0.1.10", abi.IDENTITY_BROADCAST],
        ["ff02::1%eth0", "fd00:1::10", abi.IDENTITY_MULTICAST],
      ] as const;
      const passes = async (to: string, from: string, source: number, port: number) => {
        // (A socket of both families hears no IPv4 group that it is not in.)
        const hears = to !== "224.0.0.1";
        const heard = await say(made, ["pod1", from, source], to, port, hears ? "20" : "0.1");
        assert.equal(heard.answered, hears, `${to}: ${heard.text}`);
        assert.deepEqual(heard.drops, [], to);
      };
      for (const [to, from] of many) await passes(to, from, 5001, 9090);
      guard(node, port("ingress", 8080), { enforceEgress: false });
      for (const [to, from, identity] of many) {
        for (const source of [5001, 5002]) {
          const refused = await say(made, ["pod1", from, source], to, 9090);
          assert.equal(refused.answered, false, to);
          assert.deepEqual(
            refused.drops.map((e) => [e.subtype, e.destinationIdentity, e.ingressCookie]),
            [[POLICY_DENIED, identity, 901]],
            to,
          );
        }
        await passes(to, from, 5003, 8080);
      }
    }),
);

kernelTest(
  "host firewall: nobody on the wire goes on with a connection that a pod has through the tunnel",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made, node) => {
      await made.serve("node1", 8080);
      guard(node, port("ingress", 8080), { enforceEgress: false });
      for (const family of [0, 1]) {
        const asked = await made.ask("pod2", "udp", NODE[family], 8080, { source: 5001 });
        assert.ok(asked.ok, asked.text);
        const length = family ? 128 : 32;
        await made.ip("outside", "address", "add", `${FAR[family]}/${length}`, "dev", "lo");
        const forged = await say(made, ["outside", FAR[family], 5001], NODE[family], 8080);
        assert.deepEqual(forged.drops.map((e) => e.subtype), [INVALID_IDENTITY]);
        const again = await made.ask("pod2", "udp", NODE[family], 8080, { source: 5001 });
        assert.ok(again.ok, again.text);
      }
    }),
);

kernelTest(
  "host firewall: prefixes that the host takes for its own are guarded, and no mark of a socket's opens a way out",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made, node) => {
      const own = ["203.0.113.7", "2001:db8:f::7"], prefixes = ["203.0.113.0/24", "2001:db8:f::/64"];
      for (const port of [8080, 9090]) await made.serve("node1", port);
      await made.serve("outside", 9090);
      for (const family of [0, 1]) {
        await made.ip("node1", "route", "add", "local", prefixes[family], "dev", "lo");
        await made.ip("outside", "route", "add", prefixes[family], "via", NODE[family]);
        const open = await made.ask("outside", "tcp", own[family], 9090);
        assert.ok(open.ok, open.text);
      }
      guard(node, port("ingress", 8080));
      for (const family of [0, 1]) {
        const asked = await made.ask("outside", "tcp", own[family], 8080);
        assert.ok(asked.ok, asked.text);
        const drops = await denied(made, "outside", "tcp", own[family], 9090);
        assert.ok(drops.length > 0 && drops.every((e) => e.subtype === POLICY_DENIED), made.drops());
        for (const mark of [0, abi.MARK_TRANSLATED, abi.MARK_DELIVERED, abi.MARK_UPSTREAM]) {
          const marked = await say(made, ["node1", NODE[family], 5001], OUTSIDE[family], 9090, "0.3", mark);
          assert.deepEqual([marked.answered, marked.drops.map((e) => [e.subtype, e.egressCookie])], [false, [[
            POLICY_DENIED,
            902,
          ]]]);
        }
      }
    }),
);

kernelTest(
  "host firewall: protocols without ports pass in fragments, other types of ICMP one by one, as policy has it",
  () =>
    cluster(abi.CONFIG_TUNNEL, async (made, node) => {
      const ESP = 50, ICMP = 1, REDIRECT = 5, MASK = 17;
      const raw = async (place: Place, protocol: number, bytes: string, to: string) => {
        node.drainEvents();
        const family = to.includes(":") ? "AF_INET6" : "AF_INET";
        const program = `import socket as s
s.socket(s.${family}, s.SOCK_RAW, ${protocol}).sendto(${bytes}, ("${to}", 0))`;
        const { code, text } = await made.in(place, "python3", "-c", program);
        assert.ok(code === 0 || text.includes("No buffer space"), text); // as the kernel says of a drop
        // (The outside knows neither protocol, and says so.)
        return node.drainEvents().filter((e) => e.type === abi.EVENT_DROP).map((e) => e.subtype)
          .filter((reason) => reason !== ERROR_OF_NO_FLOW);
      };
      const icmp = (type: number) => `bytes([${type}, 0, ${255 - type}, 255, 0, 0, 0, 0])`;
      guard(node, [allow("egress", { protocol: ESP }), allow("ingress", { protocol: ICMP, port: REDIRECT })]);
      for (const family of [0, 1]) {
        assert.deepEqual(await raw("node1", ESP, "bytes(3000)", OUTSIDE[family]), []);
        assert.deepEqual(
          await raw("node1", 47, "bytes(3000)", OUTSIDE[family]),
          [POLICY_DENIED],
        );
      }
      const hostFlows = () =>
        node.flows().filter(({ key }) => key.scope === abi.CT_SCOPE_HOST && key.protocol === ICMP).length;
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(await raw("outside", ICMP, icmp(REDIRECT), NODE[0]), []);
        assert.deepEqual(await raw("outside", ICMP, icmp(MASK), NODE[0]), [POLICY_DENIED]);
        assert.deepEqual(await raw("node1", ICMP, icmp(REDIRECT), OUTSIDE[0]), [POLICY_DENIED]);
      }
      assert.equal(hostFlows(), 0);
    }),
);
