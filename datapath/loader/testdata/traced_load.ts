// Loads small programs under strace: the gate rejects `drop`. Prints what the gate accepted, then loads again without rejecting.
import { BpfObject, Gate, StructuralVerifier } from "@weir/loader";
import { compileBpf } from "../testing.ts";

const bytes = compileBpf(new URL("small.c", import.meta.url));
const structural = new StructuralVerifier();
const accepted: string[] = [];
for (const rejects of [true, false]) {
  const gate = new Gate({
    mode: "structural",
    version: "traced",
    kernelProfile: "any",
    verify(request) {
      const report = structural.verify(request);
      if (rejects && request.program === "drop") return { ...report, verdict: "unsafe", code: "WT0001" };
      accepted.push(request.program);
      return report;
    },
  });
  using object = BpfObject.open(bytes, { name: "small" });
  try {
    object.load(gate);
  } catch (error) {
    if (!rejects) throw error;
  }
}
console.log(JSON.stringify(accepted));
