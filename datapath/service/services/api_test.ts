import assert from "node:assert/strict";
import { BpfMap, openPin } from "@weir/loader";
import {
  Backend,
  Config,
  CONFIG_MASQUERADE_V4,
  CONFIG_MASQUERADE_V6,
  CONFIG_NO_BACKEND_DROP,
  OuterAddresses,
} from "@weir/maps";
import { BACKENDS, WEB } from "./testing.ts";
import { nodeTest, rowsOf, sleep } from "../testing.ts";

nodeTest(
  "POST services:update, GET services, maps and metrics tell one story; kill -9 changes nothing",
  async (node) => {
    const answer = await node.request("POST", "/v1/services:update", { services: [WEB], backends: BACKENDS });
    assert.deepEqual([answer.services, answer.frontends, answer.backends, answer.errors], [
      1,
      3,
      3,
      undefined,
    ]);
    assert.ok(answer.mapWrites > 0 && answer.timeUs > 0);
    const story = async () => {
      const { status: _status, ...service } = await node.request("GET", "/v1/services/7");
      return { service, lb: await rowsOf(node, "lb"), backends: await rowsOf(node, "backend") };
    };
    const before = await story();
    assert.equal(before.service.name, WEB.name);
    assert.deepEqual(
      before.lb.map(({ frontend, service, backend, scope, state, algorithm, affinityS, flags }) =>
        [frontend, service, backend, scope, state, algorithm, affinityS, flags].join(" ")
      ),
      [
        "0.0.0.0:30080 default/web:http 10.44.0.10:8080 internal,external active maglev 10800 external,node-port,affinity",
        "0.0.0.0:30080 default/web:http 10.44.9.11:8080 internal active maglev 10800 external,node-port,affinity",
        "10.96.0.10:0 default/web:http     closed",
        "10.96.0.10:80 default/web:http 10.44.0.10:8080 internal active maglev 10800 affinity,source-ranges",
        "10.96.0.10:80 default/web:http 10.44.9.11:8080 internal active maglev 10800 affinity,source-ranges",
      ].map((row) => row.replace("   closed", "    closed")),
    );
    assert.deepEqual((await rowsOf(node, "source_ranges")).map(({ service, prefix }) => [service, prefix]), [
      [WEB.name, "192.0.2.0/24"],
    ]);
    assert.deepEqual(await rowsOf(node, "nat"), []);
    assert.deepEqual(await rowsOf(node, "affinity"), []);
    const listed = await node.request("GET", "/v1/services");
    assert.deepEqual([listed.items[0].status.backends, listed.items[0].status.activeBackends], [3, 2]);
    const { pressure } = await node.request("GET", "/v1/status");
    const row = (map: string) => pressure.find((each: { map: string }) => each.map === map);
    assert.equal(Number(row("weir_frontends").entries), 3);
    assert.equal(Number(row("weir_backends").entriesMax), 131071);
    assert.ok(Number(row("weir_selections").bytes) > 1 << 20 && row("weir_nat") !== undefined);
    const metrics = await node.exec("curl", "-s", "--unix-socket", node.socket, "http://x/metrics");
    assert.match(metrics, /weir_datapath_service\{.*service="default\/web:http".*\} 0/);
    assert.match(metrics, /weir_datapath_backends\{state="live"\} 3/);

    await node.stop("SIGKILL");
    await node.start();
    await node.configure();
    assert.equal((await node.request("GET", "/v1/status")).leftovers, 1);
    const again = await node.request("POST", "/v1/services:update", {
      services: [WEB],
      backends: BACKENDS,
      replace: true,
    });
    assert.equal(again.mapWrites ?? 0, 0, "it was all there");
    assert.deepEqual(await story(), before);
    await node.request("POST", "/v1/services:update", { deletedBackends: [BACKENDS[0]] });
    assert.deepEqual((await rowsOf(node, "backend")).map(({ state }) => state), [
      "resting",
      "active",
      "terminating",
    ]);
    await node.stop("SIGKILL");
    await node.start();
    await node.configure();
    assert.equal((await node.request("POST", "/v1/sync", {})).swept, 1, "nobody asked for it");
    assert.deepEqual(await rowsOf(node, "lb"), []);
  },
);

nodeTest("POST services:update refuses what is wrong, and names who cannot be served", async (node) => {
  const refuse = (body: unknown, pattern: RegExp) =>
    assert.rejects(node.request("POST", "/v1/services:update", body), pattern);
  await refuse(
    { services: [{ ...WEB, tableSize: 100 }] },
    /table_size is 100, not one of 251.*SERVICE_INVALID/,
  );
  await refuse({ services: [{ ...WEB, protocol: "ICMP" }] }, /protocol is ..ICMP.., not TCP, UDP or SCTP/);
  await refuse({ services: [WEB], backends: [{ ...BACKENDS[0], address: "10.44" }] }, /BACKEND_INVALID/);
  await refuse({ backends: BACKENDS }, /nothing was changed.*SERVICE_UNKNOWN/);
  assert.equal((await node.request("GET", "/v1/services")).items?.length ?? 0, 0);
  await node.request("POST", "/v1/services:update", { services: [WEB], backends: BACKENDS });
  const second = { ...WEB, id: 8, name: "default/other:http" };
  const { errors, failedServices } = await node.request("POST", "/v1/services:update", {
    services: [second],
  });
  assert.deepEqual(failedServices, [8]);
  assert.match(
    errors[0].error,
    /default\/other:http.*10\.96\.0\.10 port 80 TCP is that of service default\/web:http/,
  );
  const status = await node.request("GET", "/v1/status");
  assert.match(status.errors[0].error, /default\/other:http/);
  await node.request("POST", "/v1/services:update", { deletedServices: [7] });
  assert.equal((await node.request("GET", "/v1/status")).errors, undefined);
});

nodeTest("Masquerade, its exceptions and outer addresses reach the kernel, and go again", async (node) => {
  const map = (name: string) => new BpfMap(openPin(`/sys/fs/bpf/weir/${node.instance}/maps/${name}`)!, name);
  using config = map("weir_config");
  using exceptions = map("weir_masquerade_exceptions");
  using outer = map("weir_outer_addresses");
  const MASK = CONFIG_MASQUERADE_V4 | CONFIG_MASQUERADE_V6 | CONFIG_NO_BACKEND_DROP;
  const flags = () => Config.decode(config.lookup(new Uint8Array(4))!).flags & MASK;
  assert.deepEqual([flags(), exceptions.keys().length, outer.keys().length], [0, 0, 0]);
  await node.exec("ip", "link", "add", "side0", "type", "veth", "peer", "name", "side1");
  await node.exec("ip", "addr", "add", "198.51.100.7/24", "dev", "side0");
  await node.exec("ip", "link", "set", "side0", "up");
  await node.configure({
    masquerade: true,
    masqueradeExceptions: ["192.168.0.0/16", "2001:db8:1::/48"],
    noBackendDrop: true,
    devices: ["under0", "side0"],
  });
  assert.equal(flags(), CONFIG_MASQUERADE_V4 | CONFIG_NO_BACKEND_DROP, "the node has no IPv6 address");
  assert.equal(exceptions.keys().length, 2);
  const addresses = outer.entries().map(([, value]) => OuterAddresses.decode(value).ipv4Be);
  assert.deepEqual(addresses, [0xc6336407], "the device that has another address than the node");
  assert.equal((await node.request("GET", "/v1/status")).errors, undefined);
  await node.configure({ masquerade: true, masqueradeExceptions: ["192.168.0.0/24"], ipv6: "2001:db8::1" });
  assert.equal(flags(), CONFIG_MASQUERADE_V4 | CONFIG_MASQUERADE_V6);
  assert.deepEqual([exceptions.keys().length, outer.keys().length], [1, 0]);
  await assert.rejects(node.configure({ masquerade: true, masqueradeExceptions: ["192.168"] }), /192\.168/);
  await node.configure();
  assert.deepEqual([flags(), exceptions.keys().length], [0, 0]);
});

nodeTest("Killed amid a large update, the next process repairs what is there", async (node) => {
  const services = Array.from({ length: 6000 }, (_, i) => ({
    ...WEB,
    id: i + 1,
    name: `default/s-${i}:http`,
    algorithm: "RANDOM",
    sourceRanges: [],
    frontends: [{ address: `10.97.${i >> 8}.${i & 255}`, port: 80 }],
  }));
  const backends = services.flatMap(({ id }) =>
    [1, 2, 3].map((last) => ({
      ...BACKENDS[0],
      service: id,
      address: `10.45.${id >> 6}.${(id & 63) * 4 + last}`,
    }))
  );
  // Records are the first that is written: with them the writing has begun.
  const records = () => {
    using map = new BpfMap(openPin(`/sys/fs/bpf/weir/${node.instance}/maps/weir_backends`)!, "weir_backends");
    const { values, count } = map.packed();
    return Array.from({ length: count }, (_, id) => values[id * Backend.bytes + 19]).filter((state) =>
      state === 1
    ).length;
  };
  for (const delayMs of [0, 40]) {
    const before = records();
    const dying = node.request("POST", "/v1/services:update", { services, backends, replace: true })
      .then(() => "done", () => "killed");
    while (records() === before) await sleep(1);
    await sleep(delayMs);
    await node.stop("SIGKILL");
    const { leftovers } = await (async () => {
      console.log(`after ${delayMs} ms: ${await dying}`);
      await node.start();
      await node.configure();
      return await node.request("GET", "/v1/status");
    })();
    const found = await rowsOf(node, "lb");
    assert.ok(
      found.every(({ backend, state }) => backend !== "" && state === "active"),
      "what is there is whole",
    );
    console.log(`${leftovers ?? 0} services and ${found.length} rows are there`);
    const half = { services: services.slice(0, 700), backends: backends.slice(0, 2100), replace: true };
    const answer = await node.request("POST", "/v1/services:update", half);
    assert.deepEqual([answer.services, answer.frontends, answer.backends, answer.errors], [
      700,
      700,
      2100,
      undefined,
    ]);
    const rows = await rowsOf(node, "lb");
    assert.equal(rows.length, 2100);
    assert.ok(
      rows.every(({ backend, state, weight }) => backend !== "" && state === "active" && weight === "1"),
    );
    assert.equal((await node.request("GET", "/v1/status")).leftovers ?? 0, 0);
  }
});
