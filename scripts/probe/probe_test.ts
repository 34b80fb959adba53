import assert from "node:assert/strict";
import { Btf } from "@weir/object";
import { firstReason, probeContextAccess, probeReturnRanges } from "./access_tables.ts";
import { HelperProbe, readHelpers } from "./helper_tables.ts";
import { Kernel } from "./kernel.ts";
import { probeTracingArguments, probeTracingHelpers } from "./tracing_tables.ts";

const available = Kernel.available();
if (!available) console.log("SKIP kernel probe: this process may not load eBPF programs");

function withKernel(body: (kernel: Kernel) => void): void {
  const kernel = new Kernel();
  try {
    body(kernel);
  } finally {
    kernel.close();
  }
}

Deno.test("firstReason() passes over instructions, states and statistics", () => {
  const log = `0: R1=ctx() R10=fp0
0: (79) r0 = *(u64 *)(r1 +1)
invalid bpf_context access off=1 size=8
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0
`;
  assert.equal(firstReason(log), "invalid bpf_context access off=1 size=8");
});

Deno.test({
  name: "probeReturnRanges() finds what every kernel since 5.8 has",
  ignore: !available,
  fn: () =>
    withKernel((kernel) => {
      const rows = new Map(probeReturnRanges(kernel).map((row) => [row[0], row.slice(1)]));
      assert.equal(rows.get("sched_cls")?.[0], "all");
      assert.equal(rows.get("connect4")?.[0], "0,1");
      assert.equal(rows.get("recvmsg4")?.[0], "1");
      assert.equal(rows.get("cgroup_skb/egress")?.[0], "0,1,2,3");
      assert.equal(rows.get("xdp")?.[3], "reject");
    }),
});

Deno.test({
  name: "probeContextAccess() tells packet pointers from numbers and reading from writing",
  ignore: !available,
  fn: () =>
    withKernel((kernel) => {
      const rows = probeContextAccess(kernel).map((row) => row.join(" "));
      for (
        const row of [
          "xdp 0 4 R ok pkt",
          "xdp 4 4 R ok pkt_end",
          "sched_cls 76 4 R ok pkt",
          "sched_cls 8 4 W ok ",
          "sched_cls 168 8 R ok sock_common_or_null",
        ]
      ) assert.ok(rows.includes(row), row);
      assert.ok(!rows.some((row) => /^(xdp|sched_cls) (0|76) \d W/.test(row) && row.startsWith("xdp")));
      assert.ok(!rows.includes("xdp 0 2 R ok scalar"));
    }),
});

Deno.test({
  name: "HelperProbe finds arguments, results and map types by what the kernel complains about",
  ignore: !available,
  fn: () =>
    withKernel((kernel) => {
      const helpers = readHelpers(Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux")))
        .filter((helper) =>
          ["map_lookup_elem", "tail_call", "redirect_map", "skb_store_bytes"].includes(helper.name)
        );
      assert.equal(helpers.length, 4);
      const probe = new HelperProbe(kernel, helpers);
      const prototypes = new Map(probe.prototypes().map((row) => [row[1], row]));
      assert.equal(prototypes.get("map_lookup_elem")?.[5].split(",").slice(0, 2).join(), "map:array,fp");
      assert.match(prototypes.get("map_lookup_elem")![4], /^R0=map_value_or_null/);
      assert.equal(prototypes.get("tail_call")?.[5].split(",").slice(0, 2).join(), "ctx,map:prog");
      assert.match(prototypes.get("skb_store_bytes")![5], /^ctx,scalar0,fp,scalar8/);
      const maps = new Map(probe.mapCompatibility().map((row) => [row[1], row.slice(3)]));
      assert.equal(maps.get("map_lookup_elem")?.[0], "ok");
      assert.equal(maps.get("map_lookup_elem")?.[3], "no");
      const allowed = new Map(probe.allowed().map((row) => [row[1], row.slice(2)]));
      assert.equal(allowed.get("redirect_map")?.filter((cell) => cell === "1").length, 3);
    }),
});

Deno.test({
  name: "probeTracingArguments() and probeTracingHelpers() find what the profile has",
  ignore: !available,
  fn: () =>
    withKernel((kernel) => {
      const vmlinux = Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
      const rows = new Set(probeTracingArguments(kernel, vmlinux).map((row) => row.join(" ")));
      assert.ok(rows.has("iter/task 0 trusted_ptr") && rows.has("iter/task 1 trusted_ptr_or_null"));
      assert.ok(rows.has("tp_btf/sched_process_wait 0 trusted_ptr_or_null"));
      const helpers = new Map(
        probeTracingHelpers(kernel, vmlinux).map(([, name, ...columns]) => [name, columns]),
      );
      assert.deepEqual(helpers.get("seq_write"), ["0", "0", "0", "0", "1"]);
      assert.deepEqual(helpers.get("get_func_ret"), ["0", "1", "1", "1", "0"]);
      assert.deepEqual(helpers.get("skb_store_bytes"), ["0", "0", "0", "0", "0"]);
    }),
});
