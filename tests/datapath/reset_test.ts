/** RST, FIN and SYN that are not what they claim to be: a connection that both sockets still have is never lost. */
import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import * as abi from "@weir/maps";
import { Cluster, type Place, WORLD } from "./cluster.ts";
import { kernelTest } from "./kernel_test_case.ts";
import { natEntries } from "./nat_entries.ts";
import { REDIRECT, SHOT } from "./node.ts";
import { ACK, FIN, RST, SYN } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const data = (file: string) => new URL(`testdata/${file}`, import.meta.url).pathname;
/** Wrong whatever the right one is; of a FIN one may be in the window, of both ends hardly. */
const SEQUENCES = [0, 12345, 0x7fffffff, 0xfffffff0].join(",");
const BOTH = abi.CT_CLOSING_FORWARD | abi.CT_CLOSING_REVERSE;
const CLUSTER = [
  { pod: ["10.0.1.10", "10.0.2.10"], vip: "10.96.0.7" },
  { pod: ["fd00:1::10", "fd00:2::10"], vip: "fd00:96::7" },
];

/** One end of a connection, told what to do line by line. */
class Talker implements AsyncDisposable {
  readonly #child: Deno.ChildProcess;
  readonly #lines: ReadableStreamDefaultReader<string>;
  readonly #input: WritableStreamDefaultWriter<Uint8Array>;
  #rest = "";

  constructor(cluster: Cluster, place: Place, ...args: string[]) {
    this.#child = new Deno.Command("ip", {
      args: ["netns", "exec", cluster.netns(place), "python3", data("talk.py"), ...args],
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#lines = this.#child.stdout.pipeThrough(new TextDecoderStream()).getReader();
    this.#input = this.#child.stdin.getWriter();
  }
  async line(): Promise<string> {
    while (!this.#rest.includes("\n")) {
      const { value, done } = await this.#lines.read();
      if (done) return "gone";
      this.#rest += value;
    }
    const [line, ...rest] = this.#rest.split("\n");
    this.#rest = rest.join("\n");
    return line;
  }
  async tell(what: string): Promise<string> {
    await this.#input.write(new TextEncoder().encode(`${what}\n`));
    return await this.line();
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#input.close().catch(() => {});
    await this.#lines.cancel();
    await this.#child.status;
  }
}

/** Flags of the flow of a client's port, without the entry that names a service's backend, at each node. */
function flags(cluster: Cluster, port: number): number[] {
  const be = (port & 255) << 8 | port >> 8;
  return cluster.nodes.map((node) => {
    const found = node.flows().filter(({ key, entry }) =>
      [key.portLoBe, key.portHiBe].some((p) => p === port || p === be) && !(entry.flags & abi.CT_SERVICE)
    );
    assert.equal(found.length, 1, cluster.drops());
    return found[0].entry.flags;
  });
}

kernelTest("no forged RST or FIN ends the tracking of a connection that both sockets have", async () => {
  const cluster = await Cluster.open(abi.CONFIG_TUNNEL);
  try {
    CLUSTER.forEach((family, i) => {
      const [node] = cluster.nodes;
      setBackend(node, { id: i + 1, address: family.pod[1], port: 7000, service: 7 });
      setSelection(node, i + 1, [i + 1]);
      setFrontend(node, { address: family.vip, port: 80, service: 7, internal: i + 1 });
    });
    for (const node of cluster.nodes) node.writeConfig({ timeoutClosing: 1 });
    // Whatever is no part of the client's connection is forbidden.
    cluster.nodes[0].setPolicy(1, { enforceIngress: true, rules: [] });
    cluster.nodes[0].changeEndpoint(1, { policy: 1 });
    cluster.nodes[1].setPolicy(1, { enforceEgress: true, rules: [] });
    cluster.nodes[1].changeEndpoint(1, { policy: 1 });
    let sport = 42000;
    for (const family of CLUSTER) {
      const [client, server] = family.pod;
      for (const [to, port] of [[server, 7000], [family.vip, 80]] as const) {
        sport++;
        const what = `${client}:${sport} to ${to}:${port}`;
        await using there = new Talker(cluster, "pod2", "listen", "7000");
        assert.equal(await there.line(), "ready");
        await using here = new Talker(cluster, "pod1", "connect", to, `${port}`, `${sport}`);
        assert.equal(await here.line(), "ready", `${what}: ${cluster.drops()}`);
        assert.equal(await here.tell("send"), "sent");
        assert.equal(await there.tell("recv"), "hello");
        const forge = async (place: Place, kinds: string, ...ends: string[]) =>
          assert.equal(
            (await cluster.in(place, "python3", data("forge.py"), ...ends, kinds, SEQUENCES)).text,
            "",
          );
        await forge("pod2", "R,RA", server, "7000", client, `${sport}`);
        await forge("pod1", "R,RA", client, `${sport}`, to, `${port}`);
        for (const at of flags(cluster, sport)) assert.equal(at & BOTH, 0, what);
        await forge("pod2", "FA", server, "7000", client, `${sport}`);
        await forge("pod1", "FA", client, `${sport}`, to, `${port}`);
        for (const at of flags(cluster, sport)) assert.notEqual(at & BOTH, BOTH, what);
        // Longer than a closing flow is remembered, then the server speaks first.
        await new Promise((done) => setTimeout(done, 2200));
        for (const node of cluster.nodes) node.gc(abi.GC_EXPIRED);
        assert.equal(await there.tell("send"), "sent");
        assert.equal(await here.tell("recv"), "hello", `${what}: ${cluster.drops()}`);
        // The sockets' own are believed, of both kinds.
        if (port === 80) {
          assert.equal(await here.tell("abort"), "closed");
          assert.match(await there.tell("recv"), /^error/);
          for (const at of flags(cluster, sport)) assert.equal(at & BOTH, BOTH, what);
        } else {
          assert.equal(await there.tell("close"), "closed");
          assert.equal(await here.tell("recv"), "end");
          for (const at of flags(cluster, sport)) assert.ok(at & abi.CT_CLOSING_REVERSE, what);
          assert.equal(await here.tell("close"), "closed");
          await until(
            `both have closed ${what}`,
            () => flags(cluster, sport).every((at) => (at & BOTH) === BOTH),
            50,
          );
        }
      }
    }
  } finally {
    await cluster.close();
  }
});

kernelTest("nor does one of the world's end a masqueraded connection", async () => {
  const cluster = await Cluster.open(
    abi.CONFIG_TUNNEL | abi.CONFIG_MASQUERADE_V4 | abi.CONFIG_MASQUERADE_V6,
  );
  try {
    const [node] = cluster.nodes, sport = 42100;
    for (const [i, own] of ["192.0.2.1", "2001:db8::1"].entries()) {
      await using there = new Talker(cluster, "outside", "listen", "7000");
      assert.equal(await there.line(), "ready");
      await using here = new Talker(cluster, "pod1", "connect", WORLD[i], "7000", `${sport}`);
      assert.equal(await here.line(), "ready", cluster.drops());
      assert.equal(await here.tell("send"), "sent");
      assert.equal(await there.tell("recv"), "hello");
      const seen = () => natEntries(node).map(({ entry }) => [...entry.tcpFlags]).flat();
      assert.equal(seen().length, 4);
      const forge = (place: Place, ...ends: string[]) =>
        cluster.in(place, "python3", data("forge.py"), ...ends, "R,RA", SEQUENCES);
      await forge("outside", WORLD[i], "7000", own, `${sport}`);
      await forge("pod1", CLUSTER[i].pod[0], `${sport}`, WORLD[i], "7000");
      assert.deepEqual(seen().filter((bits) => bits & (RST | FIN)), []);
      assert.equal(node.flows().filter(({ entry }) => entry.flags & BOTH).length, 0);
      assert.equal(await there.tell("abort"), "closed");
      assert.match(await here.tell("recv"), /^error/);
      assert.equal(seen().filter((bits) => bits & RST).length, 2, `${seen()}`);
      node.gc(abi.GC_ALL);
    }
  } finally {
    await cluster.close();
  }
});

for (const f of FAMILIES) {
  kernelTest(`${f.name}: where no socket is known, a packet after a RST takes it back`, async () => {
    const { node, from } = await twoEndpoints();
    using _ = node;
    const there = (bits: number) => from(A, { from: f.a, to: f.b, flags: bits }).verdict;
    const back = (bits: number) =>
      from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: bits }).verdict;
    const entry = () => node.flows()[0].entry;
    const lifetime = () => node.lifetime(entry());
    there(SYN), back(SYN | ACK), there(ACK);
    for (const [again, bits] of [[there, ACK], [back, ACK], [there, ACK | FIN]] as const) {
      back(RST);
      assert.equal(entry().flags & BOTH, BOTH);
      assert.equal(lifetime(), 10);
      assert.equal(again(bits), REDIRECT);
      assert.equal(entry().flags & BOTH, bits & FIN ? abi.CT_CLOSING_FORWARD : 0);
      assert.equal(lifetime(), 8000);
    }
    there(RST);
    assert.equal(back(ACK), REDIRECT);
    // What FIN has closed stays closed.
    assert.equal(entry().flags & BOTH, abi.CT_CLOSING_FORWARD);
    back(FIN | ACK);
    there(RST), there(ACK);
    assert.equal(entry().flags & BOTH, BOTH);
  });

  kernelTest(
    `${f.name}: a SYN against a flow is judged as what it opens; simultaneous open works`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.setPolicy(1, { enforceIngress: true, rules: [] });
      node.changeEndpoint(A, { policy: 1 });
      const there = (bits: number) => from(A, { from: f.a, to: f.b, flags: bits }).verdict;
      const back = (bits: number) =>
        from(B, { from: f.b, to: f.a, sport: 80, dport: 40000, flags: bits }).verdict;
      // Both open at once: B may not, so only A's SYN arrives, and B's answer to it is part of A's connection.
      assert.equal(there(SYN), REDIRECT);
      assert.equal(back(SYN), SHOT);
      assert.equal(back(SYN | ACK), REDIRECT);
      assert.equal(there(ACK), REDIRECT);
      // On the live connection: an own port is no way around policy, and nothing of the connection changes.
      const before = node.flows()[0].entry;
      assert.equal(back(SYN), SHOT);
      assert.equal(node.counted(abi.DROP_POLICY), 2);
      assert.equal(node.flows()[0].entry.flags, before.flags);
      assert.equal(there(SYN), REDIRECT, "a SYN of its opener hears a challenge ACK");
      assert.equal(back(ACK), REDIRECT);
      assert.equal(node.flows()[0].entry.ends[0].endpoint, A);
      // Allowed, it passes, and the flow is still A's.
      node.changeEndpoint(A, { policy: 0 });
      assert.equal(back(SYN), REDIRECT);
      assert.equal(node.flows()[0].entry.ends[0].endpoint, A);
    },
  );
}
