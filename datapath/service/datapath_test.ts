import assert from "node:assert/strict";
import { until } from "@weir/common/testing/until";
import { closeFd, openPin, pin, unpin } from "@weir/loader";
import { cgroupRoot } from "@weir/common";
import { isSilent, nodeTest, pings, PingStream, run, TestNode } from "./testing.ts";

const allow = (identity: number, change: Record<string, unknown> = {}) => ({
  direction: "INGRESS",
  identity,
  precedence: 0xffffff01,
  cookie: 7,
  ...change,
});

async function twoPods(node: TestNode): Promise<{ a: string; b: string }> {
  const a = await node.pod("a"), b = await node.pod("b");
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
  await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b));
  return { a, b };
}

nodeTest(
  "PUT endpoint attaches a namespace that reaches its neighbours and the host, v4 and v6",
  async (node) => {
    const { a } = await twoPods(node);
    const { status } = await node.request("GET", "/v1/endpoints/b");
    assert.equal(status.ready, true);
    console.log(`attach: ${status.attachMs.toFixed(1)} ms`);
    for (const address of ["10.44.0.11", "fd44::b", "10.44.0.1", "fd44::1", "192.0.2.1"]) {
      assert.ok(await pings(a, address), address);
    }
    assert.ok(await pings(node.netns, "10.44.0.10"), "from the host");
    const { rows } = await node.request("GET", "/v1/maps/endpoint");
    assert.deepEqual(rows.map((row: { fields: { name: string } }) => row.fields.name), ["a", "b"]);
    const programs = await node.request("GET", "/v1/programs");
    for (const program of programs.items) {
      assert.equal(program.tag, program.verifiedTag);
      assert.equal(program.verdict, "accepted");
    }
    assert.match(await node.exec("ip", "route", "show", "proto", "87"), /10\.44\.0\.10 dev lxc/);
    await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
    assert.ok(await pings(a, "10.44.0.11"), "a repeated PUT changes nothing");
    await node.request("DELETE", "/v1/endpoints/b");
    assert.ok(await isSilent(a, "10.44.0.11"));
    assert.equal((await node.request("GET", "/v1/maps/endpoint")).rows.length, 1);
  },
);

nodeTest(
  "PUT policy: default deny, allow, and a change bites on the next packet of a running flow",
  async (node) => {
    const { a, b } = await twoPods(node);
    const policy = (entries: unknown[], policyRevision: number) =>
      node.request("PUT", "/v1/policies/1011", {
        policyRevision,
        enforceIngress: true,
        ingressDefaultCookie: 9,
        entries,
      });
    const { status } = await policy([allow(1010, { protocol: 1 })], 1);
    assert.equal(status.entries, 1);
    await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b, { policy: "1011" }));
    assert.ok(await pings(a, "10.44.0.11"), "allowed by the rule");
    assert.ok(await isSilent(a, "fd44::b"), "no rule for ICMPv6: default deny");
    await using running = new PingStream(a, "10.44.0.11", 0.2);
    await until("the first packets have answers", () => running.answered.length > 0);
    await policy([], 2);
    const { length } = running.answered;
    const denied = async () => {
      const { rows } = await node.request("GET", "/v1/maps/metrics");
      const row = rows.find((row: { fields: { reason: string } }) => row.fields.reason === "133");
      return Number(row?.fields.packets ?? 0);
    };
    await until("the running flow is stopped", async () => await denied() > 10);
    // One may have been on its way.
    assert.ok(running.answered.length <= length + 1, `${running.answered.length} answers, ${length} before`);
    assert.ok(await isSilent(a, "10.44.0.11"), "denied now");
    await policy([allow(1010)], 3);
    assert.ok(await pings(a, "10.44.0.11") && await pings(a, "fd44::b"), "allowed again");
    assert.equal((await node.request("GET", "/v1/endpoints/b")).status.policyRevision, "3");
    const dump = await node.request("GET", "/v1/maps/policy");
    const entry =
      dump.rows.find((row: { fields: { identity: string } }) => row.fields.identity === "1010").fields;
    assert.deepEqual([entry.verdict, entry.port, entry.protocol, entry.direction], [
      "allow",
      "any",
      "ANY",
      "ingress",
    ]);
    await assert.rejects(node.request("DELETE", "/v1/policies/1011"), /POLICY_IN_USE/);
  },
);

nodeTest("POST conntrack:in-use says whose addresses endpoints have flows with", async (node) => {
  const { a } = await twoPods(node);
  const inUse = async (...addresses: string[]) =>
    (await node.request("POST", "/v1/conntrack:in-use", { addresses })).addresses ?? [];
  const asked = ["10.44.0.11", "fd44::b", "198.51.100.1"];
  assert.deepEqual(await inUse(...asked), []);
  assert.ok(await pings(a, "10.44.0.11"));
  assert.deepEqual(await inUse(...asked), ["10.44.0.11"]);
  assert.ok(await pings(a, "fd44::b"));
  assert.deepEqual(
    await inUse(...asked),
    ["10.44.0.11", "fd44::b"],
    "of both families, as they were written",
  );
  await assert.rejects(inUse("10.44.0.11", "x"), /INVALID_ARGUMENT/);
  await assert.rejects(inUse(...Array.from({ length: 10_001 }, () => "10.44.0.11")), /at most 10000/);
});

nodeTest(
  "An endpoint's packets to other nodes go on to name its identity before, by the next process too",
  async (node) => {
    const a = await node.pod("a");
    await node.configure();
    const wire = async (identity: number) => {
      await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a, { identity }));
      const { rows } = await node.request("GET", "/v1/maps/endpoint");
      return rows[0].fields.wire;
    };
    assert.equal(await wire(5), "");
    assert.equal(await wire(1010), "", "nobody knows of one that begins");
    assert.equal(await wire(1010), "");
    assert.equal(await wire(1011), "1010");
    assert.equal(await wire(1012), "1010", "others may know of none since");
    await node.stop("SIGKILL");
    await node.start();
    await node.configure();
    assert.equal(await wire(1012), "1010");
    assert.equal(await wire(1013), "1010");
    await node.request("DELETE", "/v1/endpoints/a");
    assert.equal(await wire(1014), "", "it is another");
  },
);

nodeTest("POST ipcache of policies alone leaves what pods and nodes have", async (node) => {
  const tell = (update: Record<string, unknown>) => node.request("POST", "/v1/ipcache", update);
  const identities = async () => {
    const { rows } = await node.request("GET", "/v1/maps/ipcache");
    return Object.fromEntries(
      rows.map(({ fields }: { fields: Record<string, string> }) => [fields.prefix, fields.identity]),
    );
  };
  await tell({ upserts: [{ prefix: "198.51.100.1/32", identity: 300 }] });
  const upserts = ["198.51.100.1/32", "198.51.100.2/32"].map((prefix) => ({ prefix, identity: 0x200_0000 }));
  await tell({ upserts, ofPolicies: true });
  assert.deepEqual(upserts.map(({ prefix }) => prefix), ["198.51.100.1/32", "198.51.100.2/32"]);
  const told = await identities();
  assert.deepEqual([told["198.51.100.1/32"], told["198.51.100.2/32"]], ["300", "33554432"]);
  const { prefixes } = await node.request("GET", "/v1/found");
  assert.deepEqual(prefixes, [{ prefix: "198.51.100.2/32", identity: 33554432 }]);
  await tell({ deletes: upserts.map(({ prefix }) => prefix), ofPolicies: true });
  const left = await identities();
  assert.deepEqual([left["198.51.100.1/32"], left["198.51.100.2/32"]], ["300", undefined]);
});

nodeTest("PUT policy refuses what does not fit, by name, before anything is written", async (node) => {
  await node.stop();
  await node.start("--policy-entries-max", "4");
  await node.configure();
  const { a, b } = await twoPods(node);
  const entries = (count: number) => Array.from({ length: count }, (_, i) => allow(2000 + i));
  const body = { policyRevision: 1, enforceIngress: true };
  await node.request("PUT", "/v1/policies/p", { ...body, entries: [allow(1010)] });
  await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b, { policy: "p" }));
  await assert.rejects(
    node.request("PUT", "/v1/policies/p", { ...body, entries: entries(5) }),
    /5 of at most 4 entries; nothing was written.*identity 2004/,
  );
  assert.ok(await pings(a, "10.44.0.11"), "what was there goes on");
});

nodeTest("kill -9: traffic goes on, and the next process takes over what it finds", async (node) => {
  const { a, b } = await twoPods(node);
  const entries = [
    allow(1010),
    allow(1011, { protocol: 6, port: 80, portPrefixLength: 16, addresses: ["10.44.0.9/32"] }),
    allow(1 << 24, { deny: true, protocol: 17, port: 8192, portPrefixLength: 3 }),
  ];
  const policy = { policyRevision: 1, enforceIngress: true, ingressDefaultCookie: 4, entries };
  const withPolicy = node.endpoint(11, b, { policy: "p" });
  const prefixes = [{ prefix: "198.51.100.0/24", identity: 1 << 24 }, {
    prefix: "2001:db8::1/128",
    identity: (1 << 24) + 1,
  }];
  await node.request("POST", "/v1/ipcache", {
    upserts: [...prefixes, { prefix: "10.44.0.10/32", identity: 1010 }],
  });
  await node.request("PUT", "/v1/policies/p", policy);
  await node.request("PUT", "/v1/endpoints/b", withPolicy);
  await node.request("POST", "/v1/sync", {});
  const known = await node.request("GET", "/v1/found");
  assert.deepEqual(known.policies.map(({ name }: { name: string }) => name), ["p"]);
  assert.equal(known.left, undefined);
  const programsBefore = await node.request("GET", "/v1/programs");
  await using stream = new PingStream(a, "10.44.0.11", 0.02);
  await until("it runs", () => stream.answered.length > 0);
  await node.stop("SIGKILL");
  assert.ok(await pings(a, "fd44::b"), "new flows without a process");
  await node.start();
  const late = node.request("POST", "/v1/sync", { epoch: "of the process before" });
  await assert.rejects(late, /DATAPATH_RESTARTED/);
  const before = await node.request("GET", "/v1/status");
  assert.equal(before.leftovers, 3, "two endpoints and a policy that nobody asked for yet");
  await node.configure();
  // Whoever gives policies can read back what is in force, and give it again under the name that it has here.
  const { policies, left: [left], ...rest } = await node.request("GET", "/v1/found");
  assert.deepEqual([policies, left.endpoints], [undefined, [11]]);
  const byPrefix = (a: { prefix: string }, b: { prefix: string }) => a.prefix < b.prefix ? -1 : 1;
  assert.deepEqual(
    rest.prefixes.map(({ prefix, identity }: typeof prefixes[0]) => ({ prefix, identity })).sort(byPrefix),
    prefixes.sort(byPrefix),
  );
  await node.request("PUT", `/v1/policies/${left.policy.name}`, left.policy);
  assert.equal(
    (await node.request("GET", "/v1/status")).leftovers,
    2,
    "its contents are those of the kernel",
  );
  await assert.rejects(
    node.request("PUT", `/v1/policies/${left.policy.name}`, { ...left.policy, process: "the one before" }),
    /DATAPATH_RESTARTED/,
  );
  const wider = { ...left.policy, entries: [...left.policy.entries, allow(1012)] };
  await node.request("PUT", `/v1/policies/${left.policy.name}`, wider);
  assert.ok(await pings(a, "fd44::b"), "the endpoint, which nobody has given yet, goes on with what it has");
  await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b, { policy: left.policy.name }));
  await node.request("PUT", "/v1/policies/p", policy);
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
  const found = await node.request("PUT", "/v1/endpoints/b", withPolicy);
  assert.equal(found.status.adopted, true);
  await node.request("DELETE", `/v1/policies/${left.policy.name}`);
  const { swept } = await node.request("POST", "/v1/sync", {});
  assert.equal(swept ?? 0, 1, "what the endpoint had before it was given");
  const status = await node.request("GET", "/v1/status");
  assert.equal(status.rebuilt ?? 0, 0);
  assert.equal(status.leftovers ?? 0, 0);
  assert.ok(status.adopted > 10, `${status.adopted} taken over`);
  const ids = (list: { items: { id: number }[] }) => list.items.map((program) => program.id).sort();
  assert.deepEqual(
    ids(await node.request("GET", "/v1/programs")),
    ids(programsBefore),
    "no program was replaced",
  );
  assert.deepEqual(await stream.missing(), []);
});

nodeTest("A program with other instructions is swapped under its link while traffic runs", async (node) => {
  const { a, b } = await twoPods(node);
  const before = await node.request("GET", "/v1/programs");
  await node.stop();
  // As if the process before had been an older version: another program under the name of this one.
  const pins = `/sys/fs/bpf/weir/${node.instance}/progs`;
  const other = openPin(`${pins}/to_netdev`)!;
  pin(other, `${pins}/from_endpoint`);
  closeFd(other);
  await using stream = new PingStream(a, "10.44.0.11", 0.02);
  await until("it runs", () => stream.answered.length > 0);
  await node.start();
  await node.configure();
  await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
  await node.request("PUT", "/v1/endpoints/b", node.endpoint(11, b));
  const after = await node.request("GET", "/v1/programs");
  const idOf = (list: { items: { name: string; id: number }[] }, name: string) =>
    list.items.find((program) => program.name === name)!.id;
  assert.notEqual(idOf(after, "from_endpoint"), idOf(before, "from_endpoint"), "replaced");
  assert.equal(idOf(after, "to_endpoint"), idOf(before, "to_endpoint"), "kept");
  assert.equal((await node.request("GET", "/v1/endpoints/a")).status.adopted, true);
  assert.deepEqual(await stream.missing(), []);
});

nodeTest(
  "a version before shares: its flows are counted at once, its own pins go, what changed is named",
  async (node) => {
    const { a } = await twoPods(node);
    assert.ok(await pings(a, "10.44.0.11"));
    await node.stop();
    const pins = `/sys/fs/bpf/weir/${node.instance}`;
    for (const name of ["weir_holdings", "weir_refused", "weir_limits", "weir_sockets_tcp"]) {
      unpin(
        `${pins}/maps/${name}`,
      );
    }
    const reshape = (from: string, to: string) => {
      const fd = openPin(`${pins}/${from}`)!;
      pin(fd, `${pins}/${to}`);
      closeFd(fd);
    };
    reshape("maps/weir_lost", "maps/weir_of_old");
    reshape("maps/weir_lost", "maps/weir_nat_scratch");
    reshape("progs/weir_clock", "progs/old_program");
    const flows = async () => (await node.request("GET", "/v1/maps/ct")).rows.length;
    const log = node.log.length;
    await node.start();
    const held = async () =>
      (await node.request("GET", "/v1/usage")).tables.find((t: { table: string }) => t.table === "conntrack")
        .entries;
    assert.ok(await flows() > 0);
    assert.equal(Number(await held()), await flows(), "counted before anybody may take more than a share");
    const loaded = node.log.slice(log).split("\n").find((line) => line.includes("Programs loaded"))!;
    assert.deepEqual(JSON.parse(loaded).mapsRebuilt, ["weir_nat_scratch"]);
    assert.deepEqual(JSON.parse(loaded).pinsRemoved.sort(), ["old_program", "weir_of_old"]);
    assert.equal(openPin(`${pins}/maps/weir_of_old`), undefined);
    await node.configure();
    await node.request("PUT", "/v1/endpoints/a", node.endpoint(10, a));
    assert.equal((await node.request("GET", "/v1/status")).rebuilt, 1);
    assert.ok(await pings(a, "10.44.0.1"));
  },
);

nodeTest("POST sync removes what the process before made and nobody wants", async (node) => {
  await twoPods(node);
  await node.stop("SIGKILL");
  await node.start();
  await node.configure();
  const { swept } = await node.request("POST", "/v1/sync", {});
  assert.ok(swept >= 2, `${swept} objects`);
  assert.doesNotMatch(await node.exec("ip", "link"), /lxc/);
  assert.equal(await node.exec("ip", "route", "show", "proto", "87"), "");
  assert.equal((await node.request("GET", "/v1/maps/endpoint")).rows, undefined);
  assert.equal((await node.request("GET", "/v1/status")).leftovers ?? 0, 0);
});

nodeTest("A namespace that is gone and a name that is taken become state with a reason", async (node) => {
  const gone = await node.request("PUT", "/v1/endpoints/gone", node.endpoint(20, "wt-no-such-namespace"));
  assert.equal(gone.status.ready ?? false, false);
  assert.match(gone.status.error.error, /namespace .*wt-no-such-namespace.* not there/);
  assert.ok(gone.status.error.nextRetryUnixS > Date.now() / 1000 - 1);
  assert.equal((await node.request("GET", "/v1/status")).errors.length, 1);

  const a = await node.pod("a");
  await run("ip", "netns", "exec", a, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "other");
  const taken = await node.request("PUT", "/v1/endpoints/taken", node.endpoint(21, a));
  assert.match(taken.status.error.error, /eth0.*name is taken/);
  await run("ip", "netns", "exec", a, "ip", "link", "del", "eth0");
  const taker = () => node.request("GET", "/v1/endpoints/taken");
  await until("the retry makes it", async () => (await taker()).status.ready === true);
  assert.equal((await taker()).status.error, undefined);
  await node.request("DELETE", "/v1/endpoints/gone");
  assert.equal((await node.request("GET", "/v1/status")).errors, undefined);

  await assert.rejects(node.request("PUT", "/v1/endpoints/x", node.endpoint(0, a)), /ENDPOINT_INVALID/);
  await assert.rejects(node.request("PUT", "/v1/endpoints/x", node.endpoint(21, a)), /taken has it/);
  await assert.rejects(node.request("GET", "/v1/maps/nothing"), /NO_SUCH_ROUTE/);
});

nodeTest(
  "A device that somebody took away is made again; one whose namespace ended says so",
  async (node) => {
    await node.stop();
    await node.start("--resync-s", "1");
    await node.configure();
    const { a, b } = await twoPods(node);
    const { status } = await node.request("GET", "/v1/endpoints/b");
    await node.exec("ip", "link", "del", status.hostDevice);
    await run("ip", "netns", "del", a);
    const statusOf = async (name: string) => (await node.request("GET", `/v1/endpoints/${name}`)).status;
    await until("the device is made again", async () => {
      const now = await statusOf("b");
      return now.ready === true && now.ifindex !== status.ifindex;
    });
    assert.ok(await pings(b, "10.44.0.1"));
    await until("whose namespace ended says so", async () => (await statusOf("a")).ready !== true);
    const gone = await node.request("GET", "/v1/endpoints/a");
    assert.match(gone.status.error.error, /not there/);
    assert.equal((await node.request("GET", "/v1/maps/endpoint")).rows.length, 2);
    await node.request("DELETE", "/v1/endpoints/a");
    assert.equal((await node.request("GET", "/v1/maps/endpoint")).rows.length, 1);
  },
);

nodeTest("Who has used up its share of conntrack is refused, named, and recovers by itself", async (node) => {
  // Another size is another map: the instance begins anew.
  await node.stop();
  await node.uninstall();
  await node.start("--ct-entries-max", "64");
  await node.configure();
  const { a, b } = await twoPods(node);
  assert.ok(await pings(a, "10.44.0.11"));
  const flood = "import socket\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n" +
    "for port in range(20000,20200): s.sendto(b'x',('203.0.113.1',port))";
  await run("ip", "netns", "exec", a, "python3", "-c", flood);
  const { rows } = await node.request("GET", "/v1/maps/metrics");
  const full = rows.find((row: { fields: { reason: string } }) => row.fields.reason === "250");
  assert.ok(Number(full.fields.packets) > 100, "what did not fit was dropped and counted");
  const { holders } = await node.request("GET", "/v1/status");
  const [{ kind, name, ct, ctRefused, pressing }] = holders;
  assert.deepEqual([kind, name, pressing], ["endpoint", "a", true]);
  assert.ok(ct >= 30 && ct <= 41 && Number(ctRefused) > 100, `${ct} held, ${ctRefused} refused`);
  assert.match(
    await node.exec("curl", "-s", "--unix-socket", node.socket, "http://x/metrics"),
    /weir_datapath_share_refused\{kind="endpoint",name="a",table="ct"\} \d{3}/,
  );
  assert.ok(await pings(b, "10.44.0.1"), "others have room");
  await until("unanswered flows make room", async () => !await isSilent(a, "10.44.0.1"));
  assert.match(node.log, /Conntrack is short of room/);
});

nodeTest("GET events streams what the programs say, with counts of what was lost", async (node) => {
  const { a } = await twoPods(node);
  const client = Deno.createHttpClient({ proxy: { transport: "unix", path: node.socket } });
  const response = await fetch("http://localhost/v1/events?watch=true", {
    client,
    headers: { accept: "application/json" },
  } as RequestInit);
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let text = "", count = 0;
  const deadline = Date.now() + 60_000;
  const traffic = pings(a, "10.44.0.11");
  while (Date.now() < deadline && count < 2) {
    const { value, done } = await reader.read();
    if (done) break;
    text += value;
    const lines = text.split("\n");
    text = lines.pop()!;
    for (const line of lines) {
      const batch = JSON.parse(line);
      assert.ok(
        Math.abs(
          batch.bootUnixS * 1000 -
            (Date.now() - Number(Deno.readTextFileSync("/proc/uptime").split(" ")[0]) * 1000),
        ) < 60_000,
      );
      count += batch.count ?? 0;
      if (!batch.count) continue;
      const records = Uint8Array.fromBase64(batch.records);
      assert.ok(new DataView(records.buffer).getUint32(0, true) >= 64);
    }
  }
  await reader.cancel();
  client.close();
  assert.ok(await traffic);
  assert.ok(count >= 2, `${count} events`);
});

nodeTest("POST ipcache: what is written is what is read; replace removes the rest", async (node) => {
  const update = {
    upserts: [{ prefix: "10.44.1.0/24", identity: 6, nodeIpv4: "192.0.2.2" }, {
      prefix: "fd44::77/128",
      identity: 5000,
    }],
  };
  const first = await node.request("POST", "/v1/ipcache", update);
  assert.equal(first.entries, 2);
  const rows = async () =>
    (await node.request("GET", "/v1/maps/ipcache")).rows.map((row: { fields: unknown }) => row.fields);
  assert.deepEqual(await rows(), [
    { prefix: "fd44::77/128", identity: "5000", node: "" },
    { prefix: "10.44.1.0/24", identity: "6", node: "192.0.2.2" },
  ]);
  await node.request("POST", "/v1/ipcache", {
    replace: true,
    upserts: [{ prefix: "10.0.0.0/8", identity: 9 }],
  });
  assert.deepEqual(await rows(), [{ prefix: "10.0.0.0/8", identity: "9", node: "" }]);
  await node.request("POST", "/v1/ipcache", { deletes: ["10.0.0.0/8", "10.0.0.0/9"] });
  await assert.rejects(
    node.request("POST", "/v1/ipcache", { upserts: [{ prefix: "10.0.0.0/40", identity: 9 }] }),
    /PREFIX_INVALID/,
  );
  assert.equal((await node.request("GET", "/v1/maps/ipcache")).rows, undefined);
});

nodeTest("uninstall leaves nothing of an instance", async (node) => {
  await node.configure({ routingMode: "TUNNEL" });
  await twoPods(node);
  await node.request("PUT", "/v1/remotenodes/node-2", { ipv4: "192.0.2.2", podCidrV4: "10.44.1.0/24" });
  assert.match(await node.exec("ip", "route"), /10\.44\.1\.0\/24 dev weir_vxlan/);
  await node.stop();
  await node.uninstall();
  assert.throws(() => Deno.statSync(`/sys/fs/bpf/weir/${node.instance}`), Deno.errors.NotFound);
  assert.doesNotMatch(await node.exec("ip", "-d", "link"), /lxc|vxlan|weir/);
  assert.equal(await node.exec("ip", "route", "show", "proto", "87"), "");
  assert.doesNotMatch(await node.exec("ip", "addr"), /10\.44\.0\.1|fd44::1/);
});

for (const routingMode of ["TUNNEL", "DIRECT"]) {
  nodeTest(`Pods of two nodes reach each other, ${routingMode.toLowerCase()}`, async (one) => {
    const two = await TestNode.create("two");
    try {
      await one.join(two);
      await two.start();
      const common = { routingMode, ipv6: "2001:db8::1" };
      await one.configure(common);
      await two.configure({
        ...common,
        nodeName: "node-2",
        ipv4: "192.0.2.2",
        ipv6: "2001:db8::2",
        podCidrV4: "10.44.1.0/24",
        podCidrV6: "fd44:1::/112",
        gatewayV4: "10.44.1.1",
        gatewayV6: "fd44:1::1",
      });
      const a = await one.pod("a"), b = await two.pod("b");
      const atOne = {
        ipv4: "192.0.2.1",
        ipv6: "2001:db8::1",
        podCidrV4: "10.44.0.0/24",
        podCidrV6: "fd44::/112",
      };
      const atTwo = {
        ipv4: "192.0.2.2",
        ipv6: "2001:db8::2",
        podCidrV4: "10.44.1.0/24",
        podCidrV6: "fd44:1::/112",
      };
      await one.request("PUT", "/v1/remotenodes/node-2", { ...atTwo });
      await two.request("PUT", "/v1/remotenodes/node-1", { ...atOne });
      const cidrs = (node: typeof atOne, identity: number, pod4: string, pod6: string) => ({
        upserts: [node.podCidrV4, node.podCidrV6, `${node.ipv4}/32`, `${node.ipv6}/128`]
          .map((prefix) => ({ prefix, identity: 6, nodeIpv4: node.ipv4 }))
          .concat([`${pod4}/32`, `${pod6}/128`].map((prefix) => ({ prefix, identity, nodeIpv4: node.ipv4 }))),
      });
      await one.request("POST", "/v1/ipcache", cidrs(atTwo, 1011, "10.44.1.11", "fd44:1::b"));
      await two.request("POST", "/v1/ipcache", cidrs(atOne, 1010, "10.44.0.10", "fd44::a"));
      await two.request("PUT", "/v1/policies/b", {
        policyRevision: 1,
        enforceIngress: true,
        entries: [allow(1010), allow(6)],
      });
      await one.request("PUT", "/v1/endpoints/a", one.endpoint(10, a));
      await two.request(
        "PUT",
        "/v1/endpoints/b",
        two.endpoint(11, b, { ipv4: "10.44.1.11", ipv6: "fd44:1::b", policy: "b" }),
      );
      assert.ok(await pings(a, "10.44.1.11", 3), "pod to pod");
      assert.ok(await pings(a, "fd44:1::b", 6), "pod to pod, v6");
      assert.ok(await pings(a, "192.0.2.2", 3), "pod to the other node");
      assert.ok(await pings(one.netns, "10.44.1.11", 3), "node to the other node's pod");
      const { rows } = await two.request("GET", "/v1/maps/ct");
      const flow = rows.map((row: { fields: Record<string, string> }) => row.fields)
        .find((fields: Record<string, string>) => fields.source === "10.44.0.10");
      assert.equal(flow.sourceIdentity, "1010");
      await two.request("PUT", "/v1/policies/b", { policyRevision: 2, enforceIngress: true, entries: [] });
      assert.ok(await isSilent(a, "10.44.1.11"), "denied");
    } catch (error) {
      console.error(two.log);
      console.error(JSON.stringify((await one.request("GET", "/v1/maps/metrics")).rows));
      console.error(JSON.stringify((await two.request("GET", "/v1/maps/metrics")).rows));
      throw error;
    } finally {
      await two.close();
    }
  });
}

nodeTest("A cgroup endpoint's processes are held to its policy", async (node) => {
  const root = cgroupRoot(Deno.readTextFileSync("/proc/self/mountinfo"));
  if (root === undefined) return console.log("SKIP: no cgroup v2");
  const cgroup = `${root}/${node.instance}`;
  Deno.mkdirSync(cgroup);
  try {
    const { a } = await twoPods(node);
    void a;
    const inside = () =>
      node.exec("sh", "-c", `echo $$ > ${cgroup}/cgroup.procs && ping -n -c1 -W1 10.44.0.10`).then(
        () => true,
        () => false,
      );
    const body = { id: 30, kind: "CGROUP", cgroup, identity: 1030 };
    const applied = await node.request("PUT", "/v1/endpoints/service", body);
    assert.equal(applied.status.ready, true, JSON.stringify(applied.status));
    await until("nothing is enforced", inside);
    await node.request("PUT", "/v1/policies/none", { policyRevision: 1, enforceEgress: true });
    await node.request("PUT", "/v1/endpoints/service", { ...body, policy: "none" });
    assert.ok(!await inside(), "egress is denied");
    await node.request("DELETE", "/v1/endpoints/service");
    await until("it is free again", inside);
    const gone = await node.request("PUT", "/v1/endpoints/x", { ...body, cgroup: `${cgroup}-no` });
    assert.match(gone.status.error.error, /does not exist/);
    const other = await node.request("PUT", "/v1/endpoints/x", { ...body, cgroup: "/tmp" });
    assert.match(
      other.status.error.error,
      /\/tmp: it is not a control group of version 2; those are below \//,
    );
  } finally {
    Deno.removeSync(cgroup);
  }
});
