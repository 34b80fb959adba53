import { deepEqual, equal, match, ok } from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { clang, compile } from "@weir/object/compile_fixture";
import { verifierWasmUrl } from "@weir/verifier";
import { buildVerifier } from "@weir/verifier/build";

const command = fileURLToPath(new URL("./main.ts", import.meta.url));
const mistakes = new URL("../../datapath/report/testdata/", import.meta.url);

/** Runs the command as a process of its own with no more rights than reading. */
function run(args: string[]): { code: number; out: string; err: string } {
  try {
    const allow = ["--allow-read", "--allow-env", "--allow-sys=osRelease"];
    const out = execFileSync(Deno.execPath(), ["run", "--no-prompt", ...allow, command, "verify", ...args], {
      stdio: "pipe",
    });
    return { code: 0, out: out.toString(), err: "" };
  } catch (error) {
    const failed = error as { status: number; stdout: Uint8Array; stderr: Uint8Array };
    return { code: failed.status, out: String(failed.stdout), err: String(failed.stderr) };
  }
}

async function withObjects(test: (directory: string) => void): Promise<void> {
  await buildVerifier({ out: fileURLToPath(verifierWasmUrl) });
  const directory = Deno.makeTempDirSync({ prefix: "weir-verify-" });
  try {
    for (const name of ["missing_null_check", "missing_bounds_check"]) {
      Deno.writeFileSync(`${directory}/${name}.o`, compile(new URL(`${name}.c`, mistakes)));
    }
    Deno.mkdirSync(`${directory}/good`);
    Deno.writeFileSync(
      `${directory}/good/ok.o`,
      compile(new URL("../../datapath/report/testdata/good/ok.c", import.meta.url)),
    );
    test(directory);
  } finally {
    Deno.removeSync(directory, { recursive: true });
  }
}

Deno.test(
  "weir verify judges several objects and directories in one call",
  { ignore: clang.missing },
  () =>
    withObjects((directory) => {
      const accepted = run([`${directory}/good`]);
      equal(accepted.code, 0, accepted.err);
      match(accepted.out, /ok\.o\s+pass\s+xdp\s+accepted/);

      const mixed = run([directory, `${directory}/good/ok.o`, "-o", "json"]);
      equal(mixed.code, 1);
      const entries = JSON.parse(mixed.out) as Record<string, unknown>[];
      deepEqual(entries.map((entry) => [entry.program, entry.verdict, entry.code]), [
        ["count_tcp", "not-proved", "WV0070"],
        ["count_bytes", "unsafe", "WV0061"],
        ["pass", "accepted", ""],
      ]);
      const fields =
        "object section program type attachType verdict code message file line path lostAt suggestion visits statesPeak memoryPeak timeUs hash";
      for (const field of fields.split(" ")) ok(field in entries[0], field);
    }),
);

Deno.test(
  "weir verify -o sarif puts the finding on its line",
  { ignore: clang.missing },
  () =>
    withObjects((directory) => {
      const { out } = run([`${directory}/missing_null_check.o`, "-o", "sarif"]);
      const log = JSON.parse(out);
      equal(log.version, "2.1.0");
      const [result] = log.runs[0].results;
      equal(log.runs[0].tool.driver.rules[result.ruleIndex].id, "WV0061");
      const { artifactLocation, region } = result.locations[0].physicalLocation;
      ok(artifactLocation.uri.endsWith("missing_null_check.c"));
      match(region.snippet.text, /session->bytes \+= skb->len/);
    }),
);

Deno.test(
  "weir verify says what is wrong with its arguments and its files",
  { ignore: clang.missing },
  () =>
    withObjects((directory) => {
      const nothing = run([]);
      deepEqual([nothing.code, nothing.err], [2, "weir: No object given\nSee: weir help verify\n"]);
      equal(run(["x.o", "-o", "xml"]).code, 2);
      equal(run(["x.o", "--kernel", "new"]).code, 2);
      equal(run(["x.o", "--type", "constructor"]).code, 2);
      const absent = run([`${directory}/absent.o`]);
      deepEqual([absent.code, /WV0215/.test(absent.out)], [1, true]);
      Deno.writeTextFileSync(`${directory}/text.o`, "no object");
      const text = run([`${directory}/text.o`]);
      deepEqual([text.code, /WV0201/.test(text.out)], [1, true]);
      match(run(["--explain", "WV0061"]).out, /What to do: Check the pointer for NULL/);
      equal(run(["--explain", "WV9999"]).code, 2);
      match(
        run([`${directory}/good`, "--kernel", "4.4"]).out,
        /needs xdp \(program\), in the kernel since 4\.8/,
      );
    }),
);
