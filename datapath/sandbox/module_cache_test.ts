import assert from "node:assert/strict";
import { Engine } from "./engine.ts";
import { defaultLibraryPath } from "./library.ts";
import { loadModule } from "./module_cache.ts";
import { assembleWat } from "./testdata/wat.ts";

const TEXT = `(module (memory (export "memory") 1) (func (export "one") (result i32) (i32.const 1)))`;

function withCache(body: (engine: Engine, wasm: Uint8Array<ArrayBuffer>, dir: string) => void): void {
  const parent = Deno.makeTempDirSync();
  const engine = new Engine(defaultLibraryPath());
  try {
    body(engine, assembleWat(engine, TEXT), `${parent}/modules`);
  } finally {
    engine.close();
    Deno.removeSync(parent, { recursive: true });
  }
}

/** Loads and frees; what came of it. */
function load(engine: Engine, wasm: Uint8Array<ArrayBuffer>, dir: string | null) {
  const { module, origin } = loadModule(engine, wasm, dir);
  engine.deleteModule(module);
  return origin;
}

Deno.test("loadModule() compiles once and then reads from disk, readable by nobody else", () => {
  withCache((engine, wasm, dir) => {
    const first = load(engine, wasm, dir);
    assert.equal(first.from, "compiler");
    assert.equal(load(engine, wasm, dir).from, "disk");
    assert.equal(Deno.statSync(first.path!).mode! & 0o777, 0o600);
    assert.equal(Deno.statSync(dir).mode! & 0o777, 0o700);
    assert.equal(load(engine, wasm, null).path, null);
  });
});

Deno.test("loadModule() compiles anew when the file could be another's or is not whole", () => {
  const damage: [string, (path: string, dir: string) => void, RegExp][] = [
    ["file writable by others", (path) => Deno.chmodSync(path, 0o606), /written by others/],
    ["directory writable by others", (_path, dir) => Deno.chmodSync(dir, 0o777), /written by others/],
    ["one byte changed", (path) => {
      const bytes = Deno.readFileSync(path);
      bytes[bytes.length - 1] ^= 1;
      Deno.writeFileSync(path, bytes);
    }, /hash is wrong/],
    ["truncated", (path) => Deno.truncateSync(path, 20), /not a compiled module/],
    ["a link", (path) => {
      Deno.renameSync(path, `${path}.real`);
      Deno.symlinkSync(`${path}.real`, path);
    }, /not a plain one/],
  ];
  for (const [name, change, doubt] of damage) {
    withCache((engine, wasm, dir) => {
      const { path } = load(engine, wasm, dir);
      change(path!, dir);
      const again = load(engine, wasm, dir);
      assert.equal(again.from, "compiler", name);
      assert.match(again.doubt!, doubt, name);
    });
  }
});

Deno.test("loadModule() goes on without a cache that cannot be written", () => {
  withCache((engine, wasm) => {
    const origin = load(engine, wasm, "/proc/nowhere");
    assert.equal(origin.from, "compiler");
    assert.notEqual(origin.doubt, null);
  });
});
