/** The programs through our own verifier, on the way into the kernel. */
import assert from "node:assert/strict";
import { BpfObject, Gate, SandboxVerifier } from "@weir/loader";
import { buildPrograms } from "../../datapath/bpf/build.ts";
import { kernelTest } from "./kernel_test_case.ts";

const wasm = new URL("../../.build/verifier.wasm", import.meta.url).pathname;

kernelTest(
  "every program is accepted by our verifier and by the kernel's, well within the limits",
  async () => {
    try {
      Deno.statSync(wasm);
    } catch {
      console.log("SKIP .build/verifier.wasm is not built (deno task build)");
      return;
    }
    const path = await buildPrograms({ out: new URL("../../.build/bpf", import.meta.url).pathname });
    using object = BpfObject.openFile(path);
    // libbpf binds .rodata to every program and makes it anew at each load: none would be taken over after a restart.
    const internal = object.maps.filter((map) => map.internal).map((map) => map.name);
    assert.deepEqual(internal, [], "constants that clang put aside");
    object.load(new Gate(new SandboxVerifier()));
    assert.equal(object.decisions.length, object.programNames.length);
    for (const decision of object.decisions) {
      assert.equal(decision.report.verdict, "accepted", decision.program);
      // The kernel gives up at a million; ours counts more generously.
      assert.ok(
        (decision.report.visits ?? 0) < 600_000,
        `${decision.program}: ${decision.report.visits} visits`,
      );
    }
  },
);

kernelTest(
  "the programs have no data sections: each would be a map of its own, made anew at every start",
  async () => {
    const path = await buildPrograms({ out: new URL("../../.build/bpf", import.meta.url).pathname });
    using object = BpfObject.openFile(path);
    // With a map that differs no program could be kept, and every restart would swap them all.
    assert.deepEqual(object.maps.filter(({ internal }) => internal).map(({ name }) => name), []);
  },
);
