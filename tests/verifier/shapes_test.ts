/**
 * Programs in C of shapes that people write, each judged as its first line says and as the running kernel does. The first
 * word: `accepted`; the code of the refusal, after `hole-` where a released kernel wrongly accepts; or `kernel-7.0`: safe,
 * but only kernels from there on can see it.
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { Btf } from "@weir/object";
import { verifierOf, verifyObject } from "@weir/report";
import { verifierWasmUrl } from "@weir/verifier";
import { clang, compile } from "../../datapath/object/compile_fixture.ts";

const DIR = new URL("./testdata/shapes/", import.meta.url);
const shapes = [...Deno.readDirSync(DIR)].map((entry) => entry.name).filter((name) => name.endsWith(".c"))
  .sort();
const verifier = verifierOf(new WebAssembly.Module(Deno.readFileSync(verifierWasmUrl)));
const kernelBtf = readKernelBtf();
const loader = kernelBtf !== undefined && canLoad();
if (!loader) {
  console.log("SKIP the kernel's verdict on shapes: this process may not load eBPF programs with bpftool");
}

/** The kernel that the shapes are judged for: the oldest whose verdicts are in the first lines. */
const VERSION = 0x061200;

function readKernelBtf(): Btf | undefined {
  try {
    return Btf.parse(Deno.readFileSync("/sys/kernel/btf/vmlinux"));
  } catch {
    return undefined;
  }
}

function canLoad(): boolean {
  if (Deno.uid() !== 0 || spawnSync("bpftool", ["version"]).status !== 0) return false;
  if (spawnSync("mountpoint", ["-q", "/sys/fs/bpf"]).status === 0) return true;
  return spawnSync("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"]).status === 0;
}

/** Whether the kernel takes every program of the object. */
function kernelTakes(object: Uint8Array, name: string): boolean {
  const file = Deno.makeTempFileSync({ suffix: ".o" }), pin = `/sys/fs/bpf/weir-shape-${Deno.pid}-${name}`;
  try {
    Deno.writeFileSync(file, object);
    execFileSync("bpftool", ["prog", "loadall", file, pin], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  } finally {
    spawnSync("rm", ["-rf", pin, file]);
  }
}

for (const name of shapes) {
  Deno.test({
    name: `shapes: ${name} is judged as it says, and as the kernel does`,
    ignore: clang.missing || kernelBtf === undefined,
    fn: () => {
      const url = new URL(name, DIR);
      const wanted = /^\/\/ (accepted|(?:hole-)?WV\d{4}|kernel-7\.0):/.exec(readFileSync(url, "utf8"))![1];
      const object = compile(url);
      const judge = (config?: { version: number; values: ReadonlyMap<string, string> }) =>
        verifyObject(name, object, verifier, { kernelBtf, config });
      const plain = judge();
      const ours = judge({ version: VERSION, values: new Map() });
      assert.ok(ours.length > 0, "no program");
      const words = ours.map((entry) => `${entry.program}: ${entry.verdict} ${entry.code} ${entry.message}`)
        .join("\n");
      const taken = ours.every((entry) => entry.verdict === "accepted");
      if (wanted === "kernel-7.0") {
        assert.ok(plain.every((entry) => entry.verdict === "accepted"), "it is safe");
        assert.ok(!taken, `it must not be promised:\n${words}`);
        assert.ok(ours.some((entry) => entry.notes.some((note) => note.includes("Linux 6.18"))), words);
      } else if (wanted === "accepted") assert.ok(taken, words);
      else assert.ok(ours.some((entry) => entry.code === wanted.replace("hole-", "")), words);
      if (loader && !wanted.startsWith("hole-")) {
        assert.equal(
          kernelTakes(object, name.replace(/\.c$/, "")),
          taken,
          `the kernel says otherwise:\n${words}`,
        );
      }
    },
  });
}

Deno.test({
  name: "shapes: a scan over a string costs visits in proportion to its length",
  ignore: clang.missing,
  fn: () => {
    const url = new URL("scan_string.c", DIR);
    const visits = (length: number) => {
      const file = Deno.makeTempFileSync({ suffix: ".c" });
      try {
        Deno.writeTextFileSync(file, readFileSync(url, "utf8").replace("i < 1000", `i < ${length}`));
        return verifyObject("scan.o", compile(new URL(`file://${file}`)), verifier)[0].visits;
      } finally {
        Deno.removeSync(file);
      }
    };
    const short = visits(100), long = visits(1600);
    console.log(`  ${short} visits for 100 bytes, ${long} for 1600`);
    assert.ok(long <= 20 * short, `${short} visits for 100 bytes, ${long} for 1600`);
  },
});

Deno.test({
  name: "shapes: branches in a loop over headers do not multiply: visits stay below twice the kernel's",
  ignore: clang.missing,
  fn: () => {
    // what 6.18 says: 41,191 and 3,160
    for (const [name, visits] of [["header_chain.c", 41_191], ["nat6.c", 3_160]] as const) {
      const [entry] = verifyObject(name, compile(new URL(name, DIR)), verifier);
      assert.equal(entry.verdict, "accepted", entry.message);
      assert.ok(entry.visits <= 2 * visits, `${name}: ${entry.visits} visits, the kernel ${visits}`);
    }
  },
});
