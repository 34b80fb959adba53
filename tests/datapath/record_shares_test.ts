/** What sockets and clients with affinity are remembered by: who makes many records makes nobody else's go. */
import assert from "node:assert/strict";
import * as abi from "@weir/maps";
import { kernelTest } from "./kernel_test_case.ts";
import { address, packet, SYN, UDP } from "./packet.ts";
import { setBackend, setFrontend, setSelection } from "./services.ts";
import { cgroupRootHere } from "../cgroup_root.ts";
import { BACKENDS, SocketClient, SocketNode } from "./socket_node.ts";
import { A, B, FAMILIES, twoEndpoints } from "./two_endpoints.ts";

const SERVICES = 6, RECORDS_MAX = abi.AFFINITY_RECORDS;

for (const f of FAMILIES) {
  const v4 = f.name === "IPv4";
  kernelTest(
    `${f.name}: one network's clients, or an endpoint's, do not fill the records of affinity`,
    async () => {
      const { node, from } = await twoEndpoints();
      using _ = node;
      node.writeConfig({ flags: abi.CONFIG_DIRECT });
      const affinity = node.map("weir_affinity"),
        any = v4 ? "0.0.0.0" : "::",
        vip = v4 ? "10.96.0.9" : "fd00:96::9";
      const backends = [1, 2, 3, 4].map((id) => v4 ? `10.0.9.${id}` : `fd00:9::${id}`);
      for (let s = 0; s < SERVICES; s++) {
        const ids = backends.map((backend, i) => {
          setBackend(node, { id: 10 * s + i + 1, address: backend, port: 8080, service: s + 1 });
          return 10 * s + i + 1;
        });
        setSelection(node, s + 1, ids);
        const flags = abi.FRONTEND_AFFINITY | abi.FRONTEND_EXTERNAL;
        const frontend = {
          port: 30000 + s,
          service: s + 1,
          internal: s + 1,
          external: s + 1,
          flags,
          affinityTimeout: 1e4,
        };
        setFrontend(node, { address: any, ...frontend });
        setFrontend(node, { address: vip, ...frontend });
      }
      const records = () =>
        [...affinity.entries()].map(([key, value]) => ({
          ...abi.AffinityKey.decode(key),
          ...abi.Affinity.decode(value),
        }));
      const come = (client: string, s: number, sport = 1024) =>
        node.run("from_netdev", packet({ from: client, to: f.host, sport, dport: 30000 + s, flags: SYN }));
      const good = v4 ? "203.0.113.9" : "2001:db8:77::9";
      come(good, 0);
      const [{ backend }] = records();
      const attacker = (i: number) =>
        v4 ? `198.51.100.${1 + i % 254}` : `2001:db8:9::${(1 + i).toString(16)}`;
      for (let i = 0; i < 1500; i++) come(attacker(i), v4 ? Math.floor(i / 254) : 1);
      assert.equal(records().length, 1 + RECORDS_MAX, "one network");
      // another one still gets its own
      come(v4 ? "192.0.77.1" : "2001:db8:78::1", 0);
      assert.equal(records().length, 2 + RECORDS_MAX);
      // an endpoint that may say what it likes about its address
      node.changeEndpoint(A, { flags: abi.ENDPOINT_NO_SOURCE_CHECK });
      for (let i = 0; i < 1500; i++) {
        const spoofed = v4 ? `10.7.${i >> 8}.${i & 255}` : `2001:db8:${(0x100 + i).toString(16)}::1`;
        from(A, { from: spoofed, to: vip, sport: 1024, dport: 30002, flags: SYN });
      }
      assert.equal(records().length, 2 + 2 * RECORDS_MAX, "one endpoint");
      from(B, { from: f.b, to: vip, sport: 1024, dport: 30002, flags: SYN });
      assert.equal(records().length, 3 + 2 * RECORDS_MAX, "another endpoint");
      // what a record is for: the others' choice stays although the backends are others now
      setSelection(node, 1, [4, 3, 2, 1]);
      const later = records().length;
      for (let sport = 2000; sport < 2020; sport++) come(good, 0, sport);
      assert.equal(records().length, later);
      const mine = records().find(({ client, service }) =>
        service === 1 && client.join() === address(good).join()
      );
      assert.equal(mine?.backend, backend);
    },
  );
}

kernelTest("sockets of one cgroup, 70,000 of UDP and of TCP, make no other's record go", async () => {
  const root = cgroupRootHere();
  if (!root) {
    console.log("SKIP no cgroup2 mounted");
    return;
  }
  const made = await SocketNode.open(root), { node } = made;
  const group = (path: string) =>
    Number(BigInt.asUintN(64, BigInt(Deno.statSync(path).ino!) * 0x9e3779b97f4a7c15n) >> 59n);
  const directories: string[] = [], clients: SocketClient[] = [];
  try {
    for (const [offset, protocol] of [[0, 6], [10, UDP]]) {
      for (const [i, backend] of BACKENDS.slice(0, 2).entries()) {
        setBackend(node, { id: i + 1 + offset, address: backend, port: 8080, protocol });
      }
      setSelection(node, 1 + offset, [1 + offset, 2 + offset]);
      setFrontend(node, { address: "10.96.0.10", port: 80, protocol, service: 7, internal: 1 + offset });
    }
    const directory = (name: string) => {
      directories.push(`${made.cgroup}/${name}`);
      Deno.mkdirSync(directories.at(-1)!);
      return directories.at(-1)!;
    };
    const own = directory("victim");
    let other = directory("attacker0");
    // of another group: one of 32 has the same
    for (let i = 1; group(other) === group(own); i++) other = directory(`attacker${i}`);
    const client = (cgroup: string) => {
      clients.push(new SocketClient(made.host, cgroup));
      return clients.at(-1)!;
    };
    const victim = client(own), attacker = client(other);
    const to = ["10.96.0.10", 80];
    for (const who of [victim, attacker]) {
      await who.do("open", { name: "u" });
      assert.deepEqual((await who.do("connect", { name: "u", to })).peer, to);
    }
    assert.equal((await victim.do("connects", { type: "tcp", to, times: 70_000 })).errno, undefined);
    assert.deepEqual((await victim.do("send", { name: "u" })).peer, to, "after its own TCP connections");
    assert.equal((await attacker.do("connects", { type: "udp", to, times: 70_000 })).errno, undefined);
    const { peer, from } = await victim.do("send", { name: "u" });
    assert.deepEqual([peer, from], [to, to], "after another's sockets");
    assert.equal((await attacker.do("send", { name: "u" })).peer![1], 8080, "its own oldest went");
    const held = [...node.map("weir_sockets").keys()].length;
    assert.ok(held <= abi.SOCKET_PLACES + 1, `${held} records`);
  } finally {
    for (const client of clients) await client.close();
    for (const path of directories) {
      for (let i = 0; i < 100; i++) {
        try {
          Deno.removeSync(path);
          break;
        } catch {
          await new Promise((done) => setTimeout(done, 20));
        }
      }
    }
    await made.close();
  }
});
