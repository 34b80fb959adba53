/**
 * Every program type with every attach type and what it may return, beside the kernel: whatever the kernel refuses, ours
 * must not accept. Types that attach to kernel functions by BTF are left to tracing_test.ts.
 */
import assert from "node:assert/strict";
import { decodeReport, encodeRequest, verifyBytes } from "@weir/verifier";
import { Kernel } from "../../scripts/probe/kernel.ts";
import { encodeNodes, node } from "./program.ts";

const available = Kernel.available();
if (!available) console.log("SKIP program types in the kernel: this process may not load eBPF programs");

const TYPES_MAX = 34, ATTACH_MAX = 62, SLEEPABLE = 16;
/** What a program may return without a range: where newer kernels have one, ours has it too. */
const SESSIONS = [56, 57];

Deno.test({
  name:
    "program types: what the kernel refuses of types, attach types, flags and results, ours does not accept",
  ignore: !available,
  fn: () => {
    const module = new WebAssembly.Module(
      Deno.readFileSync(new URL("../../.build/verifier.wasm", import.meta.url)),
    );
    const kernel = new Kernel();
    const wrong: string[] = [];
    let accepted = 0;
    const compare = (type: number, attach: number, flags: number, result: number) => {
      const instructions = encodeNodes([node(0xb7, { immediate: result }), node(0x95)]);
      const request = encodeRequest({
        name: "type",
        programType: type,
        attachType: attach,
        programFlags: flags,
        gplCompatible: true,
        instructions,
        maps: [],
      });
      if (decodeReport(verifyBytes(module, request)).verdict !== "accepted") return;
      accepted++;
      const loaded = kernel.load({ type, expectedAttachType: attach, flags, instructions });
      if (loaded.ok) return kernel.closeFd(loaded.fd);
      wrong.push(`type ${type} attach ${attach} flags ${flags} result ${result}: errno ${loaded.errno}`);
    };
    try {
      for (let type = 0; type < TYPES_MAX; type++) {
        for (let attach = 0; attach < ATTACH_MAX; attach++) {
          if (type === 2 && SESSIONS.includes(attach)) continue;
          for (const result of [-1, 0, 1, 2, 3, 4]) compare(type, attach, 0, result);
          for (const flags of [SLEEPABLE, 32, 256]) compare(type, attach, flags, 1);
        }
      }
    } finally {
      kernel.close();
    }
    console.log(`  ${accepted} accepted by both`);
    assert.deepEqual(wrong, []);
    assert.ok(accepted > 1000, `${accepted} accepted`);
  },
});
