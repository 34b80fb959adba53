/**
 * Asks the running kernel what its verifier allows and writes the verifier's kernel profile, one table a file.
 *
 * ```text
 *  ctx_access.tsv         prog off size access result reg
 *  helpers_allowed.tsv    id helper <1 or 0 per program type>
 *  helpers_proto.tsv      id helper probed_in result return args expected hints
 *  helper_map_compat.tsv  id helper prog <ok, no, ?why per map type>
 *  retval_range.tsv       prog constants unknown_scalar pointer_in_R0 no_R0
 *  helpers_tracing.tsv    id helper <1 or 0 per attach type of tracing>
 *  tracing_arguments.tsv  target slot kind
 * ```
 *
 * @module
 */

import { probeContextAccess, probeReturnRanges } from "./access_tables.ts";
import { Btf } from "@weir/object";
import { HelperProbe, readHelpers } from "./helper_tables.ts";
import { Kernel } from "./kernel.ts";
import { PROBED_TYPES } from "./program_types.ts";
import { probeTracingArguments, probeTracingHelpers, TRACING_COLUMNS } from "./tracing_tables.ts";

const MAP_COLUMNS =
  "array hash prog perf stack cgrp dev sockmap cpumap xsk sockhash reuse queue ringbuf bloom lpm";

function main(): void {
  const out = Deno.args[0] ?? new URL("../../datapath/verifier/profile", import.meta.url).pathname;
  if (Deno.args.includes("--help")) {
    console.log(
      "scripts/probe-kernel [DIRECTORY]   asks the running kernel, writes its tables (default: datapath/verifier/profile)",
    );
    return;
  }
  if (!Kernel.available()) {
    console.error(
      "probe-kernel: this process may not load eBPF programs here (needs root and a kernel with BPF)",
    );
    Deno.exit(1);
  }
  const kernel = new Kernel();
  try {
    Deno.mkdirSync(out, { recursive: true });
    const names = PROBED_TYPES.map((type) => type.name);
    const vmlinux = Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
    const helpers = readHelpers(vmlinux);
    const probe = new HelperProbe(kernel, helpers);
    const tables: [string, string[], () => string[][]][] = [
      [
        "retval_range",
        ["prog", "accepted_constants(-2..40)", "unknown_scalar", "pointer_in_R0", "no_R0"],
        () => probeReturnRanges(kernel),
      ],
      ["ctx_access", ["prog", "off", "size", "access", "result", "reg"], () => probeContextAccess(kernel)],
      ["helpers_allowed", ["id", "helper", ...names], () => probe.allowed()],
      [
        "helpers_proto",
        [
          "id",
          "helper",
          "probed_in",
          "result",
          "return",
          "args_that_worked_or_last_tried",
          "expected_by_arg",
          "hints",
        ],
        () => probe.prototypes(),
      ],
      [
        "helper_map_compat",
        ["id", "helper", "prog", ...MAP_COLUMNS.split(" ")],
        () => probe.mapCompatibility(),
      ],
      ["helpers_tracing", ["id", "helper", ...TRACING_COLUMNS], () => probeTracingHelpers(kernel, vmlinux)],
      ["tracing_arguments", ["target", "slot", "kind"], () => probeTracingArguments(kernel, vmlinux)],
    ];
    for (const [name, header, rows] of tables) {
      const start = performance.now();
      const found = rows();
      Deno.writeTextFileSync(
        `${out}/${name}.tsv`,
        [header, ...found].map((row) => `${row.join("\t")}\n`).join(""),
      );
      console.log(
        `probe-kernel: ${name}.tsv, ${found.length} rows, ${
          ((performance.now() - start) / 1000).toFixed(1)
        } s`,
      );
    }
  } finally {
    kernel.close();
  }
}

if (import.meta.main) main();
