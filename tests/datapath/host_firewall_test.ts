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
const HOST = abi.ENDPOINT_HOST, REMOTE_NODE = 6, POLICY_DENIED = 133;
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
