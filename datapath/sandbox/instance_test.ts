import assert from "node:assert/strict";
import { Engine } from "./engine.ts";
import { LibraryMissing, ModuleRejected, OutOfFuel, OutOfMemory, Trapped } from "./errors.ts";
import { Instance } from "./instance.ts";
import { defaultLibraryPath } from "./library.ts";
import { assembleWat } from "./testdata/wat.ts";

const MODULE = `(module
  (memory (export "memory") 1)
  (func (export "add") (param i32 i64) (result i64) (i64.add (i64.extend_i32_s (local.get 0)) (local.get 1)))
  (func (export "pair") (result i32 i64) (i32.const -7) (i64.const 9))
  (func (export "byte") (param i32) (result i32) (i32.load8_u (local.get 0)))
  (func (export "spin") (loop (br 0)))
  (func $deep (export "deep") (call $deep))
  (func (export "die") unreachable)
  (func (export "hoard") (loop (br_if 0 (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable)
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`;

const LIMITS = { fuelMax: 1_000_000n, memoryBytesMax: 8 << 20 };

function withInstance(text: string, body: (instance: Instance) => void, limits = LIMITS): void {
  const engine = new Engine(defaultLibraryPath());
  try {
    const module = engine.compile(assembleWat(engine, text));
    try {
      const instance = new Instance(engine, module, limits);
      try {
        body(instance);
      } finally {
        instance.close();
      }
    } finally {
      engine.deleteModule(module);
    }
  } finally {
    engine.close();
  }
}

Deno.test("Instance.call() passes and returns 32- and 64-bit values with their signs", () => {
  withInstance(MODULE, (instance) => {
    assert.deepEqual(instance.call("add", [-3, 10n], ["i64"]), [7n]);
    assert.deepEqual(instance.call("add", [2, -(1n << 62n)], ["i64"]), [2n - (1n << 62n)]);
    assert.deepEqual(instance.call("pair", [], ["i32", "i64"]), [-7, 9n]);
    assert.ok(instance.fuelUsed > 0n && instance.fuelUsed < 1000n);
  });
});

Deno.test("Instance.call() ends an endless loop as OutOfFuel with the limit in it", () => {
  withInstance(MODULE, (instance) => {
    assert.throws(() => instance.call("spin", []), (error: Error) => {
      assert.ok(error instanceof OutOfFuel);
      assert.equal(error.fuelMax, LIMITS.fuelMax);
      return true;
    });
  });
});

Deno.test("Instance.call() ends endless recursion and a dead end as Trapped", () => {
  withInstance(MODULE, (instance) => {
    assert.throws(() => instance.call("deep", []), Trapped);
  }, { ...LIMITS, fuelMax: 1_000_000_000n });
  withInstance(MODULE, (instance) => {
    assert.throws(() => instance.call("die", []), (error: Error) => error instanceof Trapped);
    assert.throws(() => instance.call("byte", [65536], ["i32"]), Trapped);
  });
});

Deno.test("Instance.call() tells a module that was refused memory from one that trapped", () => {
  withInstance(MODULE, (instance) => {
    assert.throws(() => instance.call("hoard", []), OutOfMemory);
    assert.ok(instance.memoryBytes <= LIMITS.memoryBytesMax);
  });
});

Deno.test("Instance.write() and read() refuse what does not lie in memory and survive a growth", () => {
  withInstance(MODULE, (instance) => {
    const bytes = new Uint8Array([1, 2, 3, 4]);
    assert.equal(instance.write(65532, bytes), true);
    assert.equal(instance.write(65533, bytes), false);
    assert.equal(instance.write(-1, bytes), false);
    assert.equal(instance.write(2 ** 53, bytes), false);
    assert.deepEqual(instance.read(65532, 4), bytes);
    assert.equal(instance.read(65532, 5), null);
    assert.equal(instance.read(0, -1), null);
    assert.deepEqual(instance.call("grow", [16], ["i32"]), [1]);
    assert.deepEqual(instance.read(65532, 5), new Uint8Array([1, 2, 3, 4, 0]));
    assert.deepEqual(instance.call("byte", [65535], ["i32"]), [4]);
  });
});

Deno.test("Instance is fresh: nothing of one program is seen by the next", () => {
  const engine = new Engine(defaultLibraryPath());
  const module = engine.compile(assembleWat(
    engine,
    `(module (memory (export "memory") 1) (data (i32.const 4096) "as compiled")
      (global $seen (mut i32) (i32.const 0))
      (func (export "seen") (result i32) (global.set $seen (i32.add (global.get $seen) (i32.const 1))) (global.get $seen))
      (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))`,
  ));
  const dirt = new Uint8Array(65536).fill(9);
  const wanted = new Uint8Array(65536);
  wanted.set(new TextEncoder().encode("as compiled"), 4096);
  for (let round = 0; round < 5; round++) {
    const instance = new Instance(engine, module, LIMITS);
    assert.equal(instance.memoryBytes, 65536);
    assert.deepEqual(instance.call("seen", [], ["i32"]), [1]);
    // Memory that was there and memory that it grew by, within what stays resident and beyond it.
    assert.deepEqual(instance.read(0, 65536), wanted);
    assert.deepEqual(instance.call("grow", [63], ["i32"]), [1]);
    for (let page = 1; page < 64; page++) {
      assert.deepEqual(instance.read(page * 65536, 65536), new Uint8Array(65536));
    }
    for (let page = 0; page < 64; page++) instance.write(page * 65536, dirt);
    instance.close();
  }
  engine.deleteModule(module);
  engine.close();
});

Deno.test("Engine.compile() rejects what is no module, wants imports or asks for too much memory at once", () => {
  const engine = new Engine(defaultLibraryPath());
  assert.throws(() => engine.compile(new Uint8Array([0, 97, 115, 109])), ModuleRejected);
  const importing = assembleWat(engine, `(module (import "env" "abort" (func)))`);
  assert.throws(() => engine.compile(importing), (error: Error) => {
    assert.ok(error instanceof ModuleRejected);
    assert.match(error.message, /1 imports/);
    return true;
  });
  const greedy = engine.compile(assembleWat(engine, `(module (memory (export "memory") 1000))`));
  assert.throws(() => new Instance(engine, greedy, LIMITS), /memory/);
  const bare = engine.compile(assembleWat(engine, `(module)`));
  assert.throws(() => new Instance(engine, bare, LIMITS), ModuleRejected);
  engine.deleteModule(greedy);
  engine.deleteModule(bare);
  engine.close();
});

Deno.test("Instance traps do not disturb the traps of Deno's own WebAssembly", async () => {
  const engine = new Engine(defaultLibraryPath());
  const wasm = assembleWat(engine, MODULE);
  const module = engine.compile(wasm);
  const own = (await WebAssembly.instantiate(wasm)).instance.exports as { byte(at: number): number };
  for (let round = 0; round < 20; round++) {
    assert.throws(() => own.byte(1 << 30), WebAssembly.RuntimeError);
    const instance = new Instance(engine, module, LIMITS);
    assert.throws(() => instance.call("byte", [1 << 30], ["i32"]), Trapped);
    instance.close();
  }
  engine.deleteModule(module);
  engine.close();
});

Deno.test("Engine names the library that it cannot load", () => {
  assert.throws(() => new Engine("/nonexistent/libwasmtime.so"), LibraryMissing);
});
