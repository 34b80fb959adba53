import assert from "node:assert/strict";
import { decodeReport, encodeRequest, verifierWasmUrl, verify, verifyBytes } from "@weir/verifier";
import { OutOfFuel, OutOfMemory } from "./errors.ts";
import { Sandbox } from "./sandbox.ts";

const built = await Deno.stat(verifierWasmUrl).then(() => true, () => false);
if (!built) console.log("SKIP sandbox with the verifier: .build/verifier.wasm is not built");

/** Instructions from 16 hexadecimal digits each. */
function program(...instructions: string[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(instructions.flatMap((text) => text.match(/../g)!.map((byte) => parseInt(byte, 16))));
}

const ACCEPTED = program("b700000000000000", "9500000000000000");
/** r0 = *(u64 *)(r1 + 1): no such context field. */
const UNSAFE = program("7910010000000000", "9500000000000000");
/** r1 = 0; do r1 += 1 while r1 < 100000; r0 = 0; exit */
const LONG = program(
  "b701000000000000",
  "0701000001000000",
  "a501feffa0860100",
  "b700000000000000",
  "9500000000000000",
);
/** r0 = 0, a hundred thousand times. */
const LARGE = program(...Array<string>(100_000).fill("b700000000000000"), "9500000000000000");
const request = (instructions: Uint8Array) => ({
  name: "t",
  programType: 3,
  gplCompatible: true,
  instructions,
});

function withSandbox(options: Parameters<typeof Sandbox.open>[0], body: (sandbox: Sandbox) => void): void {
  const sandbox = Sandbox.open({ cacheDir: null, ...options });
  try {
    body(sandbox);
  } finally {
    sandbox.close();
  }
}

Deno.test({
  name: "Sandbox.verify() accepts, refuses and tells what it cost",
  ignore: !built,
  fn: () =>
    withSandbox({}, (sandbox) => {
      const report = sandbox.verify(request(ACCEPTED));
      assert.equal(report.verdict, "accepted");
      assert.equal(report.visits, 2);
      assert.ok(report.fuelUsed > 0n && report.timeUs > 0 && report.memoryBytes > 0);
      const refused = sandbox.verify(request(UNSAFE));
      assert.equal(refused.verdict, "unsafe");
      assert.equal(refused.instruction, 0);
    }),
});

Deno.test({
  name: "Sandbox.verify() gives the report that Deno's WebAssembly gives",
  ignore: !built,
  fn: () =>
    withSandbox({}, (sandbox) => {
      const module = new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl));
      for (const instructions of [ACCEPTED, UNSAFE, LONG]) {
        const bytes = encodeRequest(request(instructions));
        assert.deepEqual(sandbox.verifyBytes(bytes).report, verifyBytes(module, bytes));
        const { fuelUsed: _fuel, timeUs: _time, memoryBytes: _memory, ...report } = sandbox.verify(
          request(instructions),
        );
        assert.deepEqual(report, verify(module, request(instructions)));
      }
    }),
});

Deno.test({
  name: "Sandbox.verify() ends at its limits, and the same program passes with the default ones",
  ignore: !built,
  fn: () => {
    withSandbox({ fuelMax: 100_000n }, (sandbox) => {
      assert.throws(() => sandbox.verify(request(LONG)), OutOfFuel);
    });
    withSandbox({ memoryBytesMax: 2 << 20 }, (sandbox) => {
      // What does not fit is refused memory by the sandbox, or the module says so itself.
      try {
        assert.equal(sandbox.verify(request(LARGE)).verdict, "limit");
      } catch (error) {
        assert.ok(error instanceof OutOfMemory, `${error}`);
      }
    });
    withSandbox({}, (sandbox) => {
      for (const instructions of [LONG, LARGE]) {
        assert.equal(sandbox.verify(request(instructions)).verdict, "accepted");
      }
    });
  },
});

Deno.test({
  name: "Sandbox.verifyBytes() answers bytes that are no request with a report that says so",
  ignore: !built,
  fn: () =>
    withSandbox({}, (sandbox) => {
      for (
        const bytes of [new Uint8Array(0), new Uint8Array(64), encodeRequest(request(ACCEPTED)).slice(0, 40)]
      ) {
        assert.notEqual(decodeReport(sandbox.verifyBytes(bytes).report).verdict, "accepted");
      }
    }),
});
