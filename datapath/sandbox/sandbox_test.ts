import assert from "node:assert/strict";
import { encodeRequest, requestHash } from "@weir/verifier";
import { Engine } from "./engine.ts";
import { MalformedReport, OutOfFuel, OutOfMemory, type SandboxError, Trapped } from "./errors.ts";
import { defaultLibraryPath } from "./library.ts";
import { Sandbox, type SandboxOptions } from "./sandbox.ts";
import { assembleWat } from "./testdata/wat.ts";

const REQUEST = {
  name: "two",
  programType: 3,
  gplCompatible: true,
  // r0 = 0; exit
  instructions: new Uint8Array([0xb7, 0, 0, 0, 0, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0]),
};

/** A module with the verifier's exports whose `verify` is the given text; a report may lie in `data`. */
function moduleText(verify: string, length: string, data = ""): string {
  return `(module (memory (export "memory") 2)
    (data (i32.const 65536) "${data}")
    (func (export "alloc") (param i32) (result i32) (i32.const 1024))
    (func $report (param i32 i32) (result i32) ${verify})
    (func (export "verify") (param i32 i32) (result i64)
      (i64.or (i64.extend_i32_u (call $report (local.get 0) (local.get 1)))
        (i64.shl (i64.extend_i32_u ${length}) (i64.const 32)))))`;
}

function withModule(text: string, body: (sandbox: Sandbox) => void, options: SandboxOptions = {}): void {
  const engine = new Engine(defaultLibraryPath());
  const wasm = assembleWat(engine, text);
  engine.close();
  const sandbox = Sandbox.open({ wasm, cacheDir: null, fuelMax: 10_000_000n, ...options });
  try {
    body(sandbox);
  } finally {
    sandbox.close();
  }
}

function escape(bytes: Uint8Array): string {
  return [...bytes].map((byte) => `\\${byte.toString(16).padStart(2, "0")}`).join("");
}

/** The bytes of a report that says "accepted" about a request with that hash. */
function acceptingReport(hash: string): Uint8Array {
  const view = new DataView(new ArrayBuffer(76));
  [0x50525657, 1].forEach((word, index) => view.setUint32(index * 4, word, true));
  view.setBigUint64(8, BigInt(`0x${hash.slice(0, 16)}`), true);
  view.setBigUint64(16, BigInt(`0x${hash.slice(16)}`), true);
  // Verdict, code, instruction, lostAt, then counters and five empty lists.
  [0, 0, -1, -1, 1, 1, 1, 1, 0, 0, 0, 0, 0].forEach((word, index) =>
    view.setInt32(24 + index * 4, word, true)
  );
  return new Uint8Array(view.buffer);
}

Deno.test("Sandbox.verify() believes an accept only with the hash of the bytes that were sent", () => {
  const hash = requestHash(encodeRequest(REQUEST));
  const right = acceptingReport(hash);
  withModule(moduleText("(i32.const 65536)", `(i32.const ${right.length})`, escape(right)), (sandbox) => {
    const report = sandbox.verify(REQUEST);
    assert.equal(report.verdict, "accepted");
    assert.ok(report.fuelUsed > 0n);
    assert.throws(() => sandbox.verify({ ...REQUEST, name: "another" }), MalformedReport);
  });
});

Deno.test("Sandbox.verify() rejects reports that lie outside memory, are cut, or carry wild counts", () => {
  const right = acceptingReport(requestHash(encodeRequest(REQUEST)));
  const wild = new Uint8Array(right);
  new DataView(wild.buffer).setUint32(right.length - 4, 0xffffffff, true);
  const verdict = new Uint8Array(right);
  verdict[24] = 77;
  const cases: [string, string, string][] = [
    ["outside memory", moduleText("(i32.const 131000)", "(i32.const 4096)"), "of memory"],
    ["negative address", moduleText("(i32.const -8)", "(i32.const 64)"), "of memory"],
    ["absurd length", moduleText("(i32.const 0)", "(i32.const -1)"), "of memory"],
    ["empty", moduleText("(i32.const 65536)", "(i32.const 0)"), "byte 0"],
    ["cut", moduleText("(i32.const 65536)", `(i32.const ${right.length - 1})`, escape(right)), "byte"],
    [
      "too long",
      moduleText("(i32.const 65536)", `(i32.const ${right.length + 4})`, escape(right)),
      "after the end",
    ],
    ["wild count", moduleText("(i32.const 65536)", `(i32.const ${right.length})`, escape(wild)), "count"],
    [
      "unknown verdict",
      moduleText("(i32.const 65536)", `(i32.const ${right.length})`, escape(verdict)),
      "verdict 77",
    ],
  ];
  for (const [name, text, message] of cases) {
    withModule(text, (sandbox) => {
      assert.throws(() => sandbox.verify(REQUEST), (error: Error) => {
        assert.ok(error instanceof MalformedReport, `${name}: ${error}`);
        assert.ok(error.message.includes(message), `${name}: ${error.message}`);
        return true;
      });
    });
  }
});

Deno.test("Sandbox.verify() turns each way to misbehave into its own error, and goes on with the next program", () => {
  const cases: [string, new (...args: never[]) => SandboxError][] = [
    ["(loop (br 0)) (i32.const 0)", OutOfFuel],
    ["(loop (br_if 0 (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) unreachable", OutOfMemory],
    ["unreachable", Trapped],
    ["(i32.load (i32.const 0x7fffffff))", Trapped],
  ];
  for (const [verify, kind] of cases) {
    withModule(moduleText(verify, "(i32.const 0)"), (sandbox) => {
      for (let round = 0; round < 2; round++) assert.throws(() => sandbox.verify(REQUEST), kind);
    });
  }
});
