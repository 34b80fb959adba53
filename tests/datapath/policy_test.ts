/** The programs' policy lookup against an obvious second one, and what a policy can hold. */
import assert from "node:assert/strict";
import { createMap, MapFull, MapType } from "@weir/loader";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { REDIRECT, type Rule, SHOT } from "./node.ts";
import { ACK, address, packet, SYN, TCP, UDP } from "./packet.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

/** policy-semantics 109-112, by looking at every rule. Undefined: nothing matches. */
function oracle(rules: Rule[], identity: number, protocol: number, port: number): Rule | undefined {
  const length = (rule: Rule) =>
    rule.protocol ? 8 + (rule.port === undefined ? 0 : rule.prefixLength ?? 16) : 0;
  const matches = (rule: Rule) => {
    if (!rule.protocol) return true;
    if (rule.protocol !== protocol) return false;
    const bits = length(rule) - 8;
    return bits === 0 || (rule.port! >> (16 - bits)) === (port >> (16 - bits));
  };
  const longest = (remote: number) =>
    rules.filter((rule) => (rule.identity ?? 0) === remote && matches(rule))
      .sort((a, b) => length(b) - length(a)).at(0);
  const own = longest(identity), any = longest(0);
  if (!own || !any) return own ?? any;
  const rank = (rule: Rule) => rule.precedence ?? (rule.deny ? 255 : 1);
  if (rank(own) !== rank(any)) return rank(own) > rank(any) ? own : any;
  if (own.deny) return own;
  return length(any) > length(own) ? any : own;
}

/** Small generator with a seed, so that a failure can be run again. */
function random(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1;
  return (below) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % below;
  };
}

kernelTest("policy_check() decides like the oracle, over random policies", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  const seed = Number(Deno.env.get("WEIR_SEED") ?? 1);
  const pick = random(seed);
  let allowed = 0, denied = 0;
  for (let round = 0; round < 60; round++) {
    const seen = new Set<string>(), rules: Rule[] = [];
    for (let i = 0; i < 1 + pick(12); i++) {
      const protocol = [0, TCP, TCP, UDP][pick(4)];
      const bits = protocol ? [0, 16, 16, 8, 12, 15][pick(6)] : 0;
      const port = bits ? (64 + pick(40)) & (0xffff << (16 - bits)) & 0xffff : undefined;
      const identity = [0, 1000, 1000, 7][pick(4)];
      const id = [protocol, bits, port, identity].join();
      if (seen.has(id)) continue;
      seen.add(id);
      rules.push({
        direction: "ingress",
        identity,
        protocol,
        port,
        prefixLength: bits || undefined,
        deny: pick(3) === 0,
        precedence: [undefined, undefined, 256, 511][pick(4)],
        cookie: 100 + i,
      });
    }
    const slot = 1 + round;
    node.setPolicy(slot, { enforceIngress: true, ingressCookie: 99, rules });
    node.changeEndpoint(B, { policy: slot });
    node.gc(abi.GC_ALL);
    for (let i = 0; i < 12; i++) {
      const protocol = pick(2) ? TCP : UDP, port = 60 + pick(48);
      node.gc(abi.GC_ALL);
      const run = from(A, { from: "10.0.1.10", to: "10.0.1.11", protocol, dport: port });
      const rule = oracle(rules, 1000, protocol, port);
      const said = `seed ${seed} round ${round}: ${protocol}/${port} ${JSON.stringify(rules)}`;
      const wanted = rule && !rule.deny ? [REDIRECT, abi.EVENT_POLICY_VERDICT] : [SHOT, abi.EVENT_DROP];
      assert.deepEqual([run.verdict, run.events[0].type], wanted, said);
      assert.equal(run.events[0].ingressCookie, rule?.cookie ?? 99, said);
      if (run.verdict === SHOT) {
        assert.equal(run.events[0].subtype, rule ? abi.DROP_POLICY_DENY : abi.DROP_POLICY, said);
        denied++;
      } else allowed++;
    }
  }
  assert.ok(allowed > 50 && denied > 50, `${allowed} allowed, ${denied} denied`);
});

kernelTest(
  "what policies in audit mode deny passes and is told, and what others deny is dropped, over random policies",
  async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const seed = Number(Deno.env.get("WEIR_SEED") ?? 2);
    const pick = random(seed);
    const counts = { dropped: 0, audited: 0, passed: 0 };
    for (let round = 0; round < 60; round++) {
      const rules = new Map<string, Rule>(), enforce = pick(3) > 0;
      for (let i = 0; i < 1 + pick(12); i++) {
        const protocol = [0, TCP, TCP][pick(3)], bits = protocol ? [0, 16, 12][pick(3)] : 0;
        const port = bits ? (64 + pick(40)) & (0xffff << (16 - bits)) & 0xffff : undefined;
        const identity = [0, 1000, 7][pick(3)], audit = pick(2) === 0, deny = pick(3) === 0;
        rules.set([audit, protocol, bits, port, identity].join(), {
          direction: "ingress",
          identity,
          protocol,
          port,
          prefixLength: bits || undefined,
          audit,
          deny,
          precedence: [deny ? 511 : 257, 255][pick(2)],
          cookie: 100 + i,
        });
      }
      const all = [...rules.values()];
      node.setPolicy(1 + round, { enforceIngress: enforce, ingressCookie: 99, rules: all });
      node.changeEndpoint(B, { policy: 1 + round });
      for (let i = 0; i < 10; i++) {
        const port = 60 + pick(48);
        node.gc(abi.GC_ALL);
        const { verdict, events: [event] } = from(A, { from: "10.0.1.10", to: "10.0.1.11", dport: port });
        const [own, audit] = [false, true].map((view) =>
          oracle(all.filter((rule) => rule.audit === view), 1000, TCP, port)
        );
        const said = `seed ${seed} round ${round}: ${enforce} ${port} ${JSON.stringify(all)}`;
        if (enforce && (own === undefined || own.deny)) {
          assert.deepEqual([verdict, event.ingressCookie], [SHOT, own?.cookie ?? 99], said);
          counts.dropped++;
          continue;
        }
        const place = enforce ? own!.flags! : abi.POLICY_ENTRY_BEHIND;
        const audited = audit?.deny && !(place & abi.POLICY_ENTRY_BEFORE) &&
          (!(audit.flags! & abi.POLICY_ENTRY_DEFAULT) || (place & abi.POLICY_ENTRY_BEHIND) !== 0);
        assert.deepEqual([verdict, event.type], [REDIRECT, abi.EVENT_POLICY_VERDICT], said);
        assert.equal((event.flags & abi.EVENT_INGRESS_AUDITED) !== 0, audited ?? false, said);
        assert.equal(event.ingressCookie, audited ? audit!.cookie : enforce ? own!.cookie : 0, said);
        counts[audited ? "audited" : "passed"]++;
      }
    }
    assert.ok(Object.values(counts).every((count) => count > 50), JSON.stringify(counts));
  },
);

kernelTest(
  "an endpoint in audit mode loses nothing to its policy, and the verdict says whose it would be",
  async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const rules: Rule[] = [
      { direction: "ingress", protocol: TCP, port: 80, cookie: 5 },
      { direction: "ingress", protocol: TCP, port: 81, deny: true, cookie: 6 },
    ];
    node.setPolicy(1, { enforceIngress: true, ingressCookie: 9, rules, audit: true });
    node.changeEndpoint(B, { policy: 1 });
    for (const [dport, cookie, audited, match] of [[80, 5, 0, 3], [81, 6, 1, 3], [82, 9, 1, 0]]) {
      const run = from(A, { from: "10.0.1.10", to: "10.0.1.11", dport });
      const [event] = run.events;
      assert.equal(run.verdict, REDIRECT);
      assert.deepEqual([event.ingressCookie, event.ingressMatch], [cookie, match], `${dport}`);
      assert.equal(event.flags & abi.EVENT_INGRESS_AUDITED, audited * abi.EVENT_INGRESS_AUDITED);
      assert.equal(event.flags & abi.EVENT_EGRESS_AUDITED, 0);
      const back = { from: "10.0.1.11", to: "10.0.1.10", sport: dport, dport: 40000, flags: SYN | ACK };
      assert.equal(from(B, back).verdict, REDIRECT);
    }
    assert.equal(node.counted(abi.DROP_POLICY) + node.counted(abi.DROP_POLICY_DENY), 0);
  },
);

kernelTest("match kinds name what the entry was about", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  const cases: [Rule, number][] = [
    [{ direction: "ingress", identity: 1000 }, abi.MATCH_L3_ONLY],
    [{ direction: "ingress", identity: 1000, protocol: TCP }, abi.MATCH_L3_PROTO],
    [{ direction: "ingress", identity: 1000, protocol: TCP, port: 80 }, abi.MATCH_L3_L4],
    [{ direction: "ingress", protocol: TCP, port: 80 }, abi.MATCH_L4_ONLY],
    [{ direction: "ingress", protocol: TCP }, abi.MATCH_PROTO_ONLY],
    [{ direction: "ingress" }, abi.MATCH_ALL],
  ];
  for (const [i, [rule, match]] of cases.entries()) {
    node.gc(abi.GC_ALL);
    node.setPolicy(i + 1, { enforceIngress: true, rules: [rule] });
    node.changeEndpoint(B, { policy: i + 1 });
    assert.equal(
      from(A, { from: "10.0.1.10", to: "10.0.1.11" }).events[0].ingressMatch,
      match,
      JSON.stringify(rule),
    );
  }
});

kernelTest("an entry that wants a proxy is refused while there is none (178)", async () => {
  const { node, from } = await twoEndpoints();
  using _ = node;
  node.setPolicy(1, {
    enforceIngress: true,
    rules: [{ direction: "ingress", protocol: TCP, port: 80, redirect: true }],
  });
  node.changeEndpoint(B, { policy: 1 });
  const run = from(A, { from: "10.0.1.10", to: "10.0.1.11" });
  // Sent back to who asks, as a RST
  assert.deepEqual([run.verdict, run.events[0].subtype, run.data[47]], [
    REDIRECT,
    abi.DROP_PROXY_LOOKUP_FAILED,
    0x14,
  ]);
});

kernelTest(
  "a policy whose map is missing allows nothing, a full policy map says so before a packet sees it",
  async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    node.map("weir_policy_slots").update(
      Uint8Array.of(9, 0, 0, 0),
      abi.PolicySlot.encode({
        directions: [1, 1].map(() => ({
          enforce: 1,
          identityShapesCount: 255,
          anyShapesCount: 255,
          flags: 0,
          defaultCookie: 1,
          identityShapes: new Uint8Array(18).fill(255),
          anyShapes: new Uint8Array(18).fill(255),
        })),
      }),
    );
    node.changeEndpoint(B, { policy: 9 });
    const run = from(A, { from: "10.0.1.10", to: "10.0.1.11" });
    assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, abi.DROP_NO_CONFIG]);
    using full = createMap({
      type: MapType.HASH,
      name: "full",
      keySize: 8,
      valueSize: 12,
      entriesMax: 2,
      flags: 1,
    });
    const add = (port: number) =>
      full.update(abi.PolicyKey.encode({ identity: 1, port, protocol: 6, shape: 16 }), new Uint8Array(12));
    add(1);
    add(2);
    assert.throws(() => add(3), MapFull);
  },
);

kernelTest("in tunnel mode the network cannot speak for a pod of another node", async () => {
  const { node } = await twoEndpoints();
  using _ = node;
  const run = node.run("from_netdev", packet({ from: "10.0.2.20", to: "10.0.1.10" }));
  assert.deepEqual([run.verdict, run.events[0].subtype], [SHOT, abi.DROP_INVALID_IDENTITY]);
  node.writeConfig({ flags: abi.CONFIG_DIRECT });
  const direct = node.run("from_netdev", packet({ from: "10.0.2.20", to: "10.0.1.10" }));
  assert.deepEqual([direct.verdict, direct.events[0].sourceIdentity], [REDIRECT, 1002]);
});

for (const f of FAMILIES) {
  kernelTest(
    `policy_check() takes a destination's own entry before its identity's, by ${f.name}`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      // Both have identity 1002: the remote one defines the port, the other does not.
      const other = f.name === "IPv4" ? "10.0.2.21" : "fd00:2::21";
      node.setIpcache(other, 1002, "192.0.2.2");
      const number = abi.DESTINATION_FIRST + 5;
      const destination = (to: string, identity: number) =>
        node.map("weir_policy_destinations").update(
          address(to),
          abi.PolicyDestination.encode({ number, identity }),
        );
      destination(f.remote, 1002);
      const egress = { direction: "egress", protocol: TCP } as const;
      const own = { ...egress, identity: number, port: 8080 };
      let sport = 20_000;
      const ask = (to: string, port: number, flags = SYN) => {
        const run = from(A, { from: f.a, to, sport: ++sport, dport: port, flags });
        return [run.verdict === SHOT ? "denied" : "allowed", run.events.at(-1)!.egressCookie];
      };
      const use = (...rules: Rule[]) => {
        node.setPolicy(1, { enforceEgress: true, egressCookie: 9, rules });
        node.changeEndpoint(A, { policy: 1 });
      };
      const some = { ...egress, identity: 1002, port: 8080, flags: abi.POLICY_ENTRY_ADDRESSES };
      use({ ...some, flags: some.flags | abi.POLICY_ENTRY_NOBODY }, { ...own, cookie: 2 });
      assert.deepEqual([ask(f.remote, 8080), ask(other, 8080)], [["allowed", 2], ["denied", 9]]);
      assert.deepEqual(ask(f.remote, 8081), ["denied", 9]);
      // The entry for all counts for the others, at its own length: here the one for anybody is longer.
      const any = { ...egress, port: 8080, prefixLength: 12, cookie: 4 };
      const all = { ...egress, identity: 1002, cookie: 3 };
      use(all, { ...some, cookie: 3, standsFor: 1 + 8 }, { ...own, deny: true, cookie: 2 }, any);
      assert.deepEqual([ask(f.remote, 8080), ask(other, 8080), ask(other, 9)], [
        ["denied", 2],
        ["allowed", 4],
        [
          "allowed",
          3,
        ],
      ]);
      use({ ...some, deny: true, cookie: 3 }, { ...own, cookie: 2, precedence: 300 });
      assert.deepEqual([ask(f.remote, 8080), ask(other, 8080)], [["allowed", 2], ["denied", 3]]);
      // The address became somebody else's.
      destination(f.remote, 1001);
      assert.deepEqual(ask(f.remote, 8080), ["denied", 3]);
      destination(f.remote, 1002);
      // An answer is judged by who was asked, whichever end has the greater address.
      for (const [asker, asked, ends] of [[A, B, [f.a, f.b]], [B, A, [f.b, f.a]]] as const) {
        const identity = asked === B ? 1001 : 1000;
        destination(ends[1], identity);
        const shared = { ...some, identity, flags: some.flags | abi.POLICY_ENTRY_NOBODY };
        const change = (deny: boolean) => {
          node.setPolicy(1, { enforceEgress: true, rules: [shared, { ...own, deny }] });
          node.changeEndpoint(asker, { policy: 1 });
        };
        change(false);
        const [there, back] = [{ from: ends[0], to: ends[1] }, { from: ends[1], to: ends[0] }];
        assert.equal(from(asker, { ...there, sport: 30_000, dport: 8080, flags: SYN }).verdict, REDIRECT);
        change(false);
        assert.equal(
          from(asked, { ...back, sport: 8080, dport: 30_000, flags: SYN | ACK }).verdict,
          REDIRECT,
        );
        change(true);
        assert.equal(from(asked, { ...back, sport: 8080, dport: 30_000, flags: ACK }).verdict, SHOT);
        node.changeEndpoint(asker, { policy: 0 });
      }
    },
  );
}
