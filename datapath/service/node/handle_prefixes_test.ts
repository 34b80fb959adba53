/** The proxy's handles in the kernel: which addresses they may have, and what is made and unmade for them. */
import assert from "node:assert/strict";
import { cgroupRoot } from "@weir/common";
import { BpfMap, openPin } from "@weir/loader";
import { Config, Handle as HandleRecord } from "@weir/maps";
import { NodeConfig } from "@weir/proto/datapath";
import { mapped } from "../kernel/addresses.ts";
import { nodeTest, rowsOf, type TestNode } from "../testing.ts";
import { handleConfig, handleConflict, NO_HANDLES } from "./handle_prefixes.ts";

const BOTH = { prefixV4: "240.0.0.0/8", prefixV6: "fd57:4c37::/64" };
const configOf = (proxy?: { prefixV4?: string; prefixV6?: string; sockets?: number; port?: number }) =>
  NodeConfig.create(proxy && { proxy: { port: 0, uid: 999, sockets: 3, ...BOTH, ...proxy } });

Deno.test("handleConfig() gives defaults, and takes prefixes of the lengths that numbers of handles fill", () => {
  assert.deepEqual(handleConfig(configOf()), NO_HANDLES);
  assert.deepEqual(handleConfig(configOf({})), {
    handleIpv4Be: 0xf0000000,
    handleMaskIpv4: 0xffffff,
    handleIpv6: 0x374c57fdn,
    proxyUid: 999,
    proxyPort: 15001,
    proxySockets: 3,
    proxyCgroup: 0n,
  });
  const small = handleConfig(configOf({ prefixV4: "100.127.0.0/16" }));
  assert.deepEqual([small.handleIpv4Be, small.handleMaskIpv4], [0x647f0000, 0xffff]);
  const v6Alone = handleConfig(configOf({ prefixV4: "" }));
  assert.deepEqual([v6Alone.handleMaskIpv4, v6Alone.handleIpv6], [0, 0x374c57fdn]);
  for (const more of [{ sockets: 65 }, { sockets: 2, port: 65_535 }]) {
    assert.throws(() => handleConfig(configOf(more)), { code: "PROXY_INVALID" }, JSON.stringify(more));
  }
  for (const prefixV4 of ["240.0.0.0/7", "240.1.0.0/17", "fd00::/64"]) {
    assert.throws(() => handleConfig(configOf({ prefixV4 })), { code: "PROXY_INVALID" }, prefixV4);
  }
  for (const prefixV6 of ["fd57::/32", "fd57::/96", "10.0.0.0/8"]) {
    assert.throws(() => handleConfig(configOf({ prefixV6 })), { code: "PROXY_INVALID" }, prefixV6);
  }
});

Deno.test("handleConflict() finds somebody's address in a prefix, and says whose it is", () => {
  const free = [["10.0.0.0/8", "pods"], ["::/0", "all"], ["fd57:4c38::/32", "pods"]] as const;
  assert.equal(handleConflict(configOf({}), free), undefined);
  for (const prefix of ["240.1.0.0/16", "240.0.0.7", "128.0.0.0/1", "fd57:4c37::/48", "fd57:4c37::9"]) {
    const found = handleConflict(configOf({}), [...free, [prefix, "node b"]]);
    assert.equal(found?.code, "PROXY_PREFIX_TAKEN", prefix);
    assert.match(found.message, /^Cannot give handles addresses of .*: node b has /);
    const later = handleConflict(configOf({}), [[prefix, "node b"]], { areThere: true });
    assert.match(later!.message, /^Handles keep the addresses of .*, and node b has .* since/);
  }
  // The programs ask about an address of it.
  assert.equal(handleConflict(configOf({ prefixV4: "255.0.0.0/8" }), [])?.code, "PROXY_PREFIX_TAKEN");
});

const mapOf = (node: TestNode, name: string) =>
  new BpfMap(openPin(`/sys/fs/bpf/weir/${node.instance}/maps/${name}`)!, name);

nodeTest(
  "The proxy's prefixes are local while it is configured, and refused where they are somebody's",
  async (node) => {
    const record = () => {
      using map = mapOf(node, "weir_config");
      return Config.decode(map.lookup(new Uint8Array(4))!);
    };
    const locals = async () =>
      await node.exec("ip", "route", "show", "table", "local", "proto", "87") +
      await node.exec("ip", "-6", "route", "show", "table", "local", "proto", "87");
    const put = (proxy?: Record<string, unknown>) =>
      node.configure({ proxy: proxy && { ...BOTH, ...proxy } });
    const errors = async () =>
      ((await node.request("GET", "/v1/status") as { errors?: { kind: string; error: string }[] }).errors ??
        [])
        .filter(({ kind }) => kind === "proxy node").map(({ error }) => error);

    assert.deepEqual([record().proxyPort, await locals()], [0, ""]);
    await put({ uid: 999 });
    assert.deepEqual([record().proxyPort, record().proxyUid, record().handleMaskIpv4], [
      15001,
      999,
      0xffffff,
    ]);
    assert.match(await locals(), /240\.0\.0\.0\/8 dev lo[^]*fd57:4c37::\/64 dev lo/);
    assert.deepEqual(await errors(), []);
    // The next process finds it so, and nobody's connections stop meanwhile.
    await node.stop("SIGKILL");
    await node.start();
    assert.equal(record().proxyPort, 15001);
    await put({ uid: 999 });
    await node.request("POST", "/v1/sync", {});
    assert.match(await locals(), /240\.0\.0\.0\/8/);
    // A prefix that pods have, and one that a route of the host has
    await put({ uid: 999, prefixV4: "10.0.0.0/8" });
    assert.match((await errors())[0], /10\.0\.0\.0\/8: this node/);
    assert.deepEqual([record().proxyPort, await locals()], [0, ""]);
    await node.exec("ip", "route", "add", "240.7.0.0/16", "dev", "under0");
    await put({ uid: 999 });
    assert.match((await errors())[0], /a route of the host has 240\.7\.0\.0\/16/);
    await put({ uid: 999, prefixV4: "241.0.0.0/8" });
    assert.match(await locals(), /241\.0\.0\.0\/8/);
    assert.deepEqual(await errors(), []);
    // Who comes later is told of, and handles keep what they have: a route, an address, another node's pods. Over a restart too.
    const later: [what: RegExp, come: () => Promise<unknown>, go: () => Promise<unknown>][] = [
      [
        /a route of the host has 241\.7\.0\.0\/16 since/,
        () => node.exec("ip", "route", "add", "241.7.0.0/16", "dev", "under0"),
        () => node.exec("ip", "route", "del", "241.7.0.0/16", "dev", "under0"),
      ],
      [
        /this node has fd57:4c37:0:0:0:0:0:9 since/,
        () => node.exec("ip", "address", "add", "fd57:4c37::9/128", "dev", "under0"),
        () => node.exec("ip", "address", "del", "fd57:4c37::9/128", "dev", "under0"),
      ],
      [
        /node b has 241\.1\.0\.0\/24 since/,
        () =>
          node.request("PUT", "/v1/remotenodes/b", {
            name: "b",
            podCidrV4: "241.1.0.0/24",
            ipv4: "192.0.2.77",
          }),
        () => node.request("DELETE", "/v1/remotenodes/b"),
      ],
    ];
    for (const [what, come, go] of later) {
      await come();
      await node.request("POST", "/v1/sync", {});
      assert.match((await errors())[0] ?? "", what);
      assert.equal(record().proxyPort, 15001, "as before");
      await put({ uid: 999, prefixV4: "241.0.0.0/8" });
      assert.match((await errors())[0] ?? "", what);
      assert.equal(record().proxyPort, 15001, "whoever says it again");
      await go();
      await node.request("POST", "/v1/sync", {});
      assert.deepEqual(await errors(), []);
    }
    await put();
    assert.deepEqual([record().proxyPort, await locals()], [0, ""]);
    await put({ uid: 999, prefixV4: "241.0.0.0/8" });
    // The next agent's proxy is in another group: the record says so before anybody is told whose a connection is.
    const group = `${cgroupRoot(await Deno.readTextFile("/proc/self/mountinfo"))}/wt-${crypto.randomUUID()}`;
    await Deno.mkdir(group);
    try {
      await node.stop();
      await node.start("--proxy-cgroup", group);
      assert.equal(record().proxyCgroup, BigInt((await Deno.stat(group)).ino!));
      assert.equal(record().proxyPort, 15001, "as before");
      // Another one in its place, and one that is gone: then nobody is in it, and that is said.
      for (const isThere of [true, false]) {
        await Deno.remove(group);
        const before = record().proxyCgroup;
        if (isThere) await Deno.mkdir(group);
        await put({ uid: 999, prefixV4: "241.0.0.0/8" });
        assert.equal(record().proxyCgroup, isThere ? BigInt((await Deno.stat(group)).ino!) : before);
        assert.match((await errors())[0] ?? "", isThere ? /^$/ : /Cannot use cgroup .*: it does not exist/);
      }
      await put();
      await put({ uid: 999, prefixV4: "241.0.0.0/8" });
      assert.equal(record().proxyPort, 0, "no group, no proxy");
      await node.stop();
      await node.start();
      await put({ uid: 999, prefixV4: "241.0.0.0/8" });
      assert.deepEqual([record().proxyPort, record().proxyCgroup], [15001, 0n]);
    } finally {
      await Deno.remove(group).catch(() => {});
    }
    await node.stop();
    await node.uninstall();
    assert.equal(await locals(), "");
  },
);

nodeTest("GET /v1/handles/<number> and weir bpf handle say who speaks to whom", async (node) => {
  using handles = mapOf(node, "weir_handles"), holdings = mapOf(node, "weir_handle_holdings");
  const number = (3 << 16) | 5;
  const put = (change: Partial<HandleRecord> = {}) =>
    handles.update(
      Uint8Array.of(5, 0, 0, 0),
      HandleRecord.encode({
        number,
        taken: 1,
        created: 0,
        upstreamPortBe: 0,
        redirect: 3,
        clientHi: 1,
        key: {
          lo: mapped("10.44.0.9"),
          hi: mapped("10.44.0.10"),
          portLoBe: 8080,
          portHiBe: 40000,
          scope: 0,
          protocol: 6,
        },
        upstream: new Uint8Array(16),
        cookie: 0n,
        frontend: mapped("10.96.0.1"),
        frontendPortBe: 80,
        service: 1,
        share: 1,
        client: { identity: 1001, endpoint: 1 },
        server: { identity: 1002, endpoint: 2 },
        ...change,
      }),
    );
  put();
  // One held, by endpoint 1: the count of all lies behind those of the shares.
  holdings.update(Uint8Array.of(0, 32, 0, 0), Uint8Array.of(1, 0, 0, 0));
  const handle = await node.request("GET", `/v1/handles/${number}`) as Record<string, unknown>;
  assert.deepEqual(handle, {
    number,
    protocol: 6,
    clientAddress: "10.44.0.10",
    clientPort: 40000,
    serverAddress: "10.44.0.9",
    serverPort: 8080,
    egress: { endpoint: 1, remoteIdentity: 1002 },
    ingress: { endpoint: 2, remoteIdentity: 1001 },
    clientIdentity: 1001,
    serverIdentity: 1002,
    frontendAddress: "10.96.0.1",
    frontendPort: 80,
  });
  const [row] = await rowsOf(node, "handle");
  assert.deepEqual([row.handle, row.client, row.server, row.rules, row.frontend], [
    String(number),
    "10.44.0.10:40000",
    "10.44.0.9:8080",
    "egress,ingress",
    "10.96.0.1:80",
  ]);
  for (const other of [number + 65536, 5, 0, "x"]) {
    await assert.rejects(
      node.request("GET", `/v1/handles/${other}`),
      (error: Error & { problem: { status: number } }) => error.problem.status === 404,
    );
  }
});
