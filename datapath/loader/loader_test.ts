import assert from "node:assert/strict";
import { BpfError, LoadError } from "./errors.ts";
import { Gate, GateError } from "./gate.ts";
import { attachClsact, attachTcx, attachXdp, BpfLink, detachClsact, queryClsact } from "./link.ts";
import { BpfMap, countCpus, createMap, MapType, u32 } from "./map.ts";
import { BpfObject } from "./object.ts";
import { ensureBpffs, listPins, openPin, pin, unpin } from "./pin.ts";
import { probeKernel } from "./probe.ts";
import { RingReader } from "./ring.ts";
import { SandboxVerifier, toVerifyRequest } from "./sandbox_verifier.ts";
import { StructuralVerifier } from "./structural_verifier.ts";
import { bpfSyscall } from "./syscall.ts";
import { compileBpf, kernelTest } from "./testing.ts";
import { VerdictCache } from "./verdict_cache.ts";
import type { GateReport, GateRequest, Verifier } from "./verifier.ts";

const small = () => compileBpf(new URL("testdata/small.c", import.meta.url));
const packet = () => new Uint8Array(64).fill(1);

/** A verifier of the structural kind whose reports a test may spoil. */
class Spoiled implements Verifier {
  readonly mode = "structural";
  readonly version = "spoiled";
  readonly kernelProfile = "any";
  asked = 0;
  readonly #spoil: (report: GateReport, request: GateRequest) => GateReport;

  constructor(spoil: (report: GateReport, request: GateRequest) => GateReport) {
    this.#spoil = spoil;
  }
  verify(request: GateRequest): GateReport {
    this.asked++;
    return this.#spoil(new StructuralVerifier().verify(request), request);
  }
}

kernelTest("BpfObject.load() loads programs and maps, and the programs run", () => {
  using object = BpfObject.open(small(), { name: "small" });
  assert.deepEqual(object.programNames, ["count", "drop", "pass", "twice"]);
  object.map("counts").setEntriesMax(32);
  object.map(".rodata").setInitialValue((bytes) => bytes[0] = 3);
  object.load(new Gate(new StructuralVerifier()));
  const result = object.program("count").testRun({ data: packet(), repeat: 5 });
  assert.equal(result.retval, 3);
  assert.equal(result.data.length, 64);
  const counts = object.openMap("counts");
  assert.equal(counts.info.entriesMax, 32);
  assert.equal(new DataView(counts.lookup(u32(1))!.buffer).getBigUint64(0, true), 5n);
  const request = new Uint8Array(8);
  request[0] = 21;
  const answered = object.program("twice").testRun({ ctx: request });
  assert.equal(answered.retval, 7);
  assert.equal(answered.ctx[4], 42);
});

kernelTest("Gate: the tag of the bytes that were judged is the tag of the running program", () => {
  using object = BpfObject.open(small(), { name: "small" });
  object.load(new Gate(new StructuralVerifier()));
  for (const decision of object.decisions) {
    assert.ok(decision.tags.includes(object.program(decision.program).info.tag), decision.program);
  }
  assert.equal(object.decisions.length, 4);
});

kernelTest(
  "BpfObject.load() takes what the kernel has already, when instructions and maps are the same",
  () => {
    using first = BpfObject.open(small(), { name: "small" });
    first.load(new Gate(new StructuralVerifier()));
    const root = `/sys/fs/bpf/wt-${Deno.pid}`;
    ensureBpffs();
    Deno.mkdirSync(root);
    try {
      for (const name of first.programNames) pin(first.program(name).fd, `${root}/${name}`);
      const again = (shared: readonly string[], pinned = (name: string) => name) => {
        const object = BpfObject.open(small(), { name: "small" });
        for (const slot of object.maps) {
          if (shared.includes(slot.name)) assert.ok(slot.reuse(first.openMap(slot.name).fd));
        }
        const gate = new Gate(new StructuralVerifier());
        object.load(gate, (name) => openPin(`${root}/${pinned(name)}`));
        assert.equal(gate.counts.accepted, 4, "each is judged, whether it is taken or not");
        const same = (name: string) => object.program(name).info.id === first.program(name).info.id;
        const taken = object.programNames.filter((name) => object.isAdopted(name));
        assert.deepEqual(object.programNames.filter(same), taken);
        assert.equal(object.program("pass").testRun({ data: packet() }).retval, 2);
        object.close();
        return taken;
      };
      const names = first.maps.map(({ name }) => name);
      assert.deepEqual(again(names), ["count", "drop", "pass", "twice"]);
      assert.deepEqual(again([]), [], "their constants are in a map as well");
      assert.deepEqual(again(names.filter((name) => name !== "counts")), ["drop", "pass", "twice"]);
      const swapped: Record<string, string> = { count: "drop", drop: "count", pass: "twice" };
      assert.deepEqual(again(names, (name) => swapped[name] ?? name), ["twice"]);
    } finally {
      Deno.removeSync(root, { recursive: true });
    }
    assert.equal(first.program("pass").testRun({ data: packet() }).retval, 2);
  },
);

kernelTest(
  "Gate: a rejection, a failure, a malformed report and an accept of other bytes each abort the load",
  () => {
    const cases: [string, Verifier, RegExp, string][] = [
      [
        "rejected",
        new Spoiled((r) => ({ ...r, verdict: "not-proved", code: "WV0001", message: "no" })),
        /WV0001/,
        "gate-rejected",
      ],
      [
        "limit",
        new Spoiled((r) => ({ ...r, verdict: "limit", code: "WV0900", message: "" })),
        /limit/,
        "gate-rejected",
      ],
      [
        "trapped",
        new Spoiled(() => {
          throw Object.assign(new Error("trap"), { code: "trapped" });
        }),
        /trapped/,
        "gate-failed",
      ],
      ["malformed", new Spoiled(() => ({} as GateReport)), /malformed/, "gate-failed"],
      ["other bytes", new Spoiled((r) => ({ ...r, hash: "00" })), /other bytes/, "gate-failed"],
    ];
    for (const [name, verifier, message, code] of cases) {
      using object = BpfObject.open(small(), { name: "small" });
      assert.throws(() => object.load(new Gate(verifier)), (error: unknown) => {
        assert.ok(error instanceof GateError, name);
        assert.match(error.message, message);
        assert.equal(error.code, code);
        return true;
      });
      assert.throws(() => object.program("count"), BpfError);
    }
  },
);

kernelTest("Gate: a verifier is told of maps, inner templates, frozen constants and functions", () => {
  const requests = new Map<string, GateRequest>();
  using object = BpfObject.open(small(), { name: "small" });
  object.map(".rodata").setInitialValue((bytes) => bytes[0] = 3);
  object.load(
    new Gate(
      new Spoiled((report, request) => {
        requests.set(request.program, request);
        return report;
      }),
    ),
  );
  const drop = requests.get("drop")!, count = requests.get("count")!;
  assert.deepEqual(drop.maps.map((map) => map.name), ["outer"]);
  assert.deepEqual(drop.maps[0].inner, {
    type: 1,
    keySize: 4,
    valueSize: 8,
    entriesMax: 8,
    flags: 0,
    specialFields: [],
  });
  assert.equal(count.maps.find((map) => map.name.endsWith(".rodata"))!.frozen![0], 3);
  assert.equal(count.maps.find((map) => map.name === "events")!.info.type, MapType.RINGBUF);
  assert.equal(count.license, "GPL");
  assert.deepEqual(toVerifyRequest(count).subprograms!.map(({ start, name }) => [start, name]), [[
    0,
    "count",
  ]]);
  assert.equal(requests.get("twice")!.flags & 16, 16, "syscall programs may sleep");
});

kernelTest("Gate: a lock is known in values, inner values and variables, and may not be overwritten", () => {
  const code = compileBpf(new URL("testdata/locks.c", import.meta.url));
  for (const program of ["in_value", "in_inner", "in_variable"]) {
    using object = BpfObject.open(code, { name: "locks" });
    for (const name of object.programNames) object.setAutoload(name, name === program);
    assert.throws(
      () => object.load(new Gate(new SandboxVerifier())),
      (error) => error instanceof GateError && /WV0067/.test(error.message),
      program,
    );
  }
});

kernelTest(
  "Gate: the second load of the same bytes is answered from the cache, until the version is revoked",
  () => {
    const directory = Deno.makeTempDirSync();
    try {
      const cache = new VerdictCache(directory);
      const verifier = new Spoiled((report) => report);
      for (const asked of [4, 4]) {
        using object = BpfObject.open(small(), { name: "small" });
        object.load(new Gate(verifier, cache));
        assert.equal(verifier.asked, asked);
      }
      assert.equal(cache.revoke("spoiled"), true);
      using object = BpfObject.open(small(), { name: "small" });
      object.load(new Gate(verifier, cache));
      assert.equal(verifier.asked, 8);
      Deno.chmodSync(directory, 0o777);
      using again = BpfObject.open(small(), { name: "small" });
      again.load(new Gate(verifier, cache));
      assert.equal(verifier.asked, 12, "a cache that others may write is not believed");
    } finally {
      Deno.removeSync(directory, { recursive: true });
    }
  },
);

kernelTest("BpfObject.load() gives the last lines of the kernel's verifier", () => {
  using object = BpfObject.open(compileBpf(new URL("testdata/unsafe.c", import.meta.url)), {
    name: "unsafe",
  });
  assert.throws(() => object.load(new Gate(new StructuralVerifier())), (error: unknown) => {
    assert.ok(error instanceof LoadError);
    assert.match(error.verifierLines.join("\n"), /invalid access to packet/);
    return true;
  });
});

kernelTest("RingReader.drain() gives records in order and frees their room", () => {
  using object = BpfObject.open(small(), { name: "small" });
  object.load(new Gate(new StructuralVerifier()));
  using ring = new RingReader(object.openMap("events").fd);
  assert.equal(ring.drain(), undefined);
  // 24 bytes a record in 4096: several times round the ring.
  let seen = 0;
  for (let round = 0; round < 10; round++) {
    object.program("count").testRun({ data: packet(), repeat: 100 });
    const batch = ring.drain()!;
    assert.equal(batch.count, 100);
    const view = new DataView(batch.records.buffer);
    for (let at = 0; at < batch.records.length; at += (4 + view.getUint32(at, true) + 7) & ~7) {
      assert.equal(view.getUint32(at, true), 16);
      assert.equal(view.getUint32(at + 4, true), 64);
      assert.equal(view.getUint32(at + 12, true), 0x77656972);
      seen++;
    }
  }
  assert.equal(seen, 1000);
  object.program("count").testRun({ data: packet(), repeat: 1000 });
  assert.equal(ring.drain()!.count, 170, "a full ring keeps what fits");
});

kernelTest("BpfMap: batches, iteration, full maps, per-CPU values, inner maps", () => {
  using map = createMap({ type: MapType.HASH, name: "wt_hash", keySize: 4, valueSize: 8, entriesMax: 1000 });
  const value = new Uint8Array(8).fill(7);
  map.updateBatch(Array.from({ length: 1000 }, (_, i) => [u32(i), value] as const));
  assert.equal(map.entries().length, 1000);
  assert.equal(map.keys().length, 1000);
  assert.throws(() => map.update(u32(5000), value), { code: "map-full" });
  assert.equal(map.insert(u32(1), value), false);
  assert.equal(map.delete(u32(5000)), false);
  assert.equal(map.clear(), 1000);
  using perCpu = createMap({
    type: MapType.PERCPU_ARRAY,
    name: "wt_cpu",
    keySize: 4,
    valueSize: 12,
    entriesMax: 1,
  });
  const parts = perCpu.lookupPerCpu(u32(0))!;
  assert.ok(parts.length >= 1 && parts.every((part) => part.length === 12));
  assert.throws(() => map.lookup(new Uint8Array(3)), { code: "map-failed" });
});

kernelTest("BpfLink.update() swaps the program of a pinned tcx link", async () => {
  const name = `wtl${Deno.pid}`;
  const directory = `/sys/fs/bpf/weir-test-loader-${Deno.pid}`;
  const ip = (...args: string[]) => new Deno.Command("ip", { args, stderr: "piped" }).output();
  ensureBpffs();
  await ip("link", "add", name, "type", "veth", "peer", "name", `${name}p`);
  try {
    using object = BpfObject.open(small(), { name: "small" });
    object.load(new Gate(new StructuralVerifier()));
    const ifindex = Number(Deno.readTextFileSync(`/sys/class/net/${name}/ifindex`));
    {
      using link = attachTcx(object.program("count").fd, ifindex, "ingress");
      pin(link.fd, `${directory}/link`);
    }
    using found = new BpfLink(openPin(`${directory}/link`)!, "found");
    assert.equal(found.info.ifindex, ifindex);
    assert.equal(found.info.programId, object.program("count").info.id);
    found.update(object.program("drop").fd);
    assert.equal(found.info.programId, object.program("drop").info.id);
    assert.equal(openPin(`${directory}/other`), undefined);
    assert.throws(() => attachTcx(object.program("count").fd, 999_999, "ingress"), { code: "attach-failed" });
  } finally {
    listPins(directory).forEach(unpin);
    await ip("link", "del", name);
    await new Deno.Command("rmdir", { args: [directory], stderr: "null" }).output();
  }
});

kernelTest("attachXdp() and attachClsact() hang programs on a device and take them off", async () => {
  const name = `wtx${Deno.pid}`;
  const ip = (...args: string[]) => new Deno.Command("ip", { args }).output();
  await ip("link", "add", name, "type", "veth", "peer", "name", `${name}p`);
  try {
    using object = BpfObject.open(small(), { name: "small" });
    object.load(new Gate(new StructuralVerifier()));
    const ifindex = Number(Deno.readTextFileSync(`/sys/class/net/${name}/ifindex`));
    {
      using link = attachXdp(object.program("pass").fd, ifindex, "generic");
      assert.equal(link.info.ifindex, ifindex);
      assert.equal(link.info.programId, object.program("pass").info.id);
      link.detach();
      assert.equal(link.info.ifindex, 0);
    }
    assert.equal(queryClsact(ifindex, "ingress"), undefined);
    for (const program of ["count", "drop"]) {
      attachClsact(object.program(program).fd, ifindex, "ingress"); // the second replaces the first
      assert.equal(queryClsact(ifindex, "ingress"), object.program(program).info.id);
    }
    assert.equal(detachClsact(ifindex, "ingress"), true);
    assert.equal(queryClsact(ifindex, "ingress"), undefined);
  } finally {
    await ip("link", "del", name);
  }
});

kernelTest("probeKernel() answers yes, no or cannot tell for every feature", () => {
  for (const feature of probeKernel()) {
    assert.ok(["yes", "no", "cannot tell"].includes(feature.answer));
    assert.match(feature.sinceKernel, /^\d+\.\d+$/);
  }
});

Deno.test("bpfSyscall() refuses to load programs", () => {
  assert.throws(() => bpfSyscall(5, new Uint8Array(8)), { code: "syscall-failed" });
});

Deno.test("countCpus() reads the kernel's list", () => {
  assert.deepEqual(["0", "0-3", "0-3,8-11"].map(countCpus), [1, 4, 12]);
});

Deno.test("No code path but the gate's loads programs", () => {
  const root = new URL("../../", import.meta.url);
  const found: string[] = [];
  const walk = (directory: URL) => {
    for (const entry of Deno.readDirSync(directory)) {
      if (/^(node_modules|testdata|gen|\..*)$/.test(entry.name)) continue;
      const url = new URL(entry.name + (entry.isDirectory ? "/" : ""), directory);
      if (entry.isDirectory) walk(url);
      else if (/(?<!_test)\.ts$/.test(entry.name)) {
        const text = Deno.readTextFileSync(url);
        if (
          /bpf_object__load|bpf_prog_load\b|bpf_program__load|PROG_LOAD\b.*=.*5|["']bpftool["']/.test(text)
        ) {
          found.push(url.pathname.slice(root.pathname.length));
        }
      }
    }
  };
  walk(new URL("datapath/", root));
  walk(new URL("services/", root));
  const outside = found.filter((path) => !path.startsWith("datapath/loader/"));
  assert.deepEqual(outside, []);
  assert.ok(found.includes("datapath/loader/object.ts"));
});

Deno.test("BpfMap needs an open descriptor", () => {
  if (Deno.uid() === 0) assert.throws(() => new BpfMap(-1), BpfError);
});
