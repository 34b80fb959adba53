import assert from "node:assert/strict";
import { BpfObject, Btf, ObjectError, requestOf } from "@weir/object";
import { Kernel } from "../../scripts/probe/kernel.ts";
import { KernelMaps, loadInKernel } from "./kernel_object.ts";
import { providePackagedObjects } from "./packaged_objects.ts";
import { Subject } from "./subject.ts";

const available = Kernel.available();
const { objects, missing } = available ? await providePackagedObjects() : { objects: [], missing: [] };
if (!available) console.log("SKIP packaged objects: this process may not load eBPF programs");
for (const name of missing) console.log(`SKIP package ${name}: it cannot be downloaded`);

/** Share of the programs that the kernel takes and ours must take. */
const SHARE = 0.99;

Deno.test({
  name: "verifier: what the kernel takes of Debian's packages is taken, in no more visits",
  ignore: objects.length === 0,
  fn: () => {
    const kernelBtf = Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
    const kernel = new Kernel(), subject = new Subject();
    const refused: string[] = [];
    let taken = 0, ours = 0, theirs = 0;
    try {
      for (const { package: name, path, type } of objects) {
        let object: BpfObject;
        try {
          object = BpfObject.parse(Deno.readFileSync(path), { kernelBtf, type });
        } catch (error) {
          assert.ok(error instanceof ObjectError, `${path}: ${error}`);
          continue;
        }
        const maps = new KernelMaps(kernel, object);
        try {
          for (const program of object.programs) {
            let request;
            try {
              request = requestOf(object, program).request;
            } catch (error) {
              assert.ok(error instanceof ObjectError, `${path} ${program.name}: ${error}`);
              continue;
            }
            const verdict = subject.verifyRequest(request);
            assert.notEqual(verdict.verdict, "broken", `${path} ${program.name}: ${verdict.message}`);
            const loaded = loadInKernel(maps, program, object.assemble(program), { logLevel: 4 });
            if (loaded?.ok !== true) continue;
            kernel.closeFd(loaded.fd);
            taken++;
            if (verdict.verdict === "accepted") {
              ours += verdict.report!.visits;
              theirs += Number(/processed (\d+) insns/.exec(loaded.log)![1]);
            } else refused.push(`${name} ${program.section} ${program.name}: ${verdict.message}`);
          }
        } finally {
          maps.close();
        }
      }
    } finally {
      kernel.close();
      subject.close();
    }
    console.log(
      `  ${taken} programs that the kernel takes, ${refused.length} not taken; visits ${theirs} and ${ours}`,
    );
    for (const line of refused) console.log(`  ${line}`);
    assert.ok(refused.length <= taken * (1 - SHARE), refused.join("\n"));
    assert.ok(ours <= theirs * 1.1, `${ours} visits, the kernel ${theirs}`);
  },
});
