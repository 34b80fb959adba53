import assert from "node:assert/strict";
import { Btf } from "@weir/object";
import { Kernel } from "../../scripts/probe/kernel.ts";
import { Subject } from "./subject.ts";
import { TracingCases } from "./tracing_cases.ts";

const KERNEL_TYPES = "/sys/kernel/btf/vmlinux";

/** Tracepoints with BTF can be loaded here; functions cannot on every kernel (that needs trampolines). */
function reason(): string | undefined {
  if (!Kernel.available()) return "this process may not load eBPF programs";
  try {
    return Btf.parse(Deno.readFileSync(KERNEL_TYPES)).find("btf_trace_sched_switch", "typedef") === undefined
      ? "the kernel has no tracepoint sched_switch"
      : undefined;
  } catch {
    return `${KERNEL_TYPES} cannot be read`;
  }
}

const skip = reason();
if (skip !== undefined) console.log(`SKIP tracing programs in the kernel: ${skip}`);
const FIRST_SEED = Number(Deno.env.get("WEIR_SEED") ?? 1);

Deno.test({
  name: "verifier: no program on a tracepoint or an iterator is accepted that the kernel refuses",
  ignore: skip !== undefined,
  fn: () => {
    const subject = new Subject();
    const cases = new TracingCases(subject, Btf.parse(Deno.readFileSync(KERNEL_TYPES)));
    try {
      for (let seed = FIRST_SEED; seed < FIRST_SEED + 1500; seed++) cases.compare(seed);
      const { programs, accepted, refused, stricter, unjudged } = cases.counts;
      const without = [...unjudged.values()].reduce((sum, count) => sum + count, 0);
      if (without > 0) console.log(`  this kernel lets nobody load for ${[...unjudged.keys()].join(", ")}`);
      assert.ok(without < programs / 10, `${without} of ${programs} were not judged by the kernel`);
      const tooStrict = [...stricter.values()].reduce((sum, count) => sum + count, 0);
      console.log(
        `  ${programs} programs: both accept ${accepted}, both refuse ${refused}, ours stricter ${tooStrict}`,
      );
      // A generator that only makes one kind of program would show nothing.
      assert.ok(
        accepted > programs / 5 && refused > programs / 5,
        `${accepted} accepted, ${refused} refused`,
      );
      assert.ok(
        tooStrict < programs / 100,
        [...stricter].map(([key, count]) => `${count} x ${key}`).join("\n"),
      );
    } finally {
      cases.close();
      subject.close();
    }
  },
});
