import { deepEqual, equal, ok } from "node:assert/strict";
import { MANUALS } from "./commands.ts";
import { completionScript } from "./completion.ts";
import { completionTree } from "./completion_tree.ts";
import { manPages } from "./man_page.ts";

async function run(words: string[], stdin: string): Promise<{ code: number; out: string; err: string }> {
  const child = new Deno.Command(words[0], {
    args: words.slice(1),
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(stdin));
  await writer.close();
  const { code, stdout, stderr } = await child.output();
  const text = (bytes: Uint8Array) => new TextDecoder().decode(bytes).trim();
  return { code, out: text(stdout), err: text(stderr) };
}

async function has(program: string): Promise<boolean> {
  return (await new Deno.Command("sh", { args: ["-c", `command -v ${program}`], stdout: "null" }).output())
    .success;
}

/** What bash offers behind these words; the last one is being written. */
async function bashOffers(...words: string[]): Promise<string[]> {
  const quoted = words.map((word) => `'${word}'`).join(" ");
  const script = `${completionScript("bash", MANUALS)}
COMP_WORDS=(${quoted}) COMP_CWORD=${words.length - 1}
_weir
printf '%s\\n' "\${COMPREPLY[@]}"`;
  const { code, out, err } = await run(["bash", "--norc"], script);
  equal(code, 0, err);
  return out.split("\n").filter((word) => word !== "");
}

Deno.test("completionTree() has every command, verb and flag", () => {
  const nodes = new Map(completionTree(MANUALS).map((node) => [node.path, node]));
  deepEqual(Object.keys(nodes.get("")!.words).sort(), Object.keys(MANUALS).sort());
  for (const [name, { verbs }] of Object.entries(MANUALS)) {
    for (const verb of Object.keys(verbs)) ok(nodes.has(`${name} ${verb}`.trim()), `${name} ${verb}`);
  }
  deepEqual(Object.keys(nodes.get("service pool")!.words).sort(), ["delete", "list"]);
});

Deno.test("bash offers commands, verbs, flags, values and files where they may stand", async () => {
  deepEqual(await bashOffers("weir", "pol"), ["policy"]);
  deepEqual((await bashOffers("weir", "policy", "")).sort(), [
    "accept-database",
    "apply",
    "check",
    "confirm",
    "delete",
    "diff",
    "explain",
    "get",
    "list",
    "matrix",
    "pending",
    "preview",
    "recommend",
    "rollback",
  ]);
  deepEqual(await bashOffers("weir", "service", "pool", "l"), ["list"]);
  deepEqual(await bashOffers("weir", "policy", "explain", "--di"), ["--direction"]);
  deepEqual(await bashOffers("weir", "policy", "list", "-o", "j"), ["json"]);
  deepEqual(await bashOffers("weir", "policy", "list", "--output", "=", "y"), ["yaml"]);
  deepEqual(
    await bashOffers("weir", "--lab", "policy", "endpoint", "la"),
    ["label"],
    "a value is no command",
  );
  deepEqual(await bashOffers("weir", "help", "und"), []);
  // Names of live objects come from the command itself, of the kind that belongs there.
  const asked = `${await Deno.makeTempDir()}/weir`;
  await Deno.writeTextFile(asked, '#!/bin/sh\n[ "$1 $2" = "completion names" ] && echo "$3-a" "$3-b"\n', {
    mode: 0o755,
  });
  deepEqual(await bashOffers(asked, "endpoint", "get", ""), ["endpoints-a", "endpoints-b"]);
  deepEqual(await bashOffers(asked, "policy", "delete", "policies-b"), ["policies-b"]);
  deepEqual(await bashOffers(asked, "status", "--node", ""), ["nodes-a", "nodes-b"]);
  deepEqual(await bashOffers(asked, "observe", "--from-pod", "end"), ["endpoints-a", "endpoints-b"]);
  deepEqual(
    await bashOffers(asked, "cluster", "token", "--name", ""),
    [],
    "a name of one's own is no live name",
  );
  await Deno.remove(asked.replace(/\/weir$/, ""), { recursive: true });
  deepEqual(await bashOffers("weir", "help", "uni"), ["uninstall"]);
  ok((await bashOffers("weir", "policy", "apply", "-f", "/etc/pass")).includes("/etc/passwd"));
  deepEqual(await bashOffers("weir", "policy", "list", "/etc/pass"), [], "no files where none may stand");
});

/** What fish offers behind these words; `weir completion names KIND` answers KIND-a and KIND-b. */
async function fishOffers(line: string): Promise<string[]> {
  const names = "function weir; printf '%s\\n' $argv[3]-a $argv[3]-b; end";
  const script = `${names}\n${completionScript("fish", MANUALS)}\ncomplete -C '${line}'`;
  const { code, out, err } = await run(["fish", "--no-config"], script);
  equal(code, 0, err);
  return out.split("\n").filter((word) => word !== "").map((word) => word.split("\t")[0]);
}

/** What zsh offers, likewise. The folder keeps what zsh knows of all its completions. */
async function zshOffers(line: string, folder: string): Promise<string[]> {
  await Deno.writeTextFile(`${folder}/_weir`, completionScript("zsh", MANUALS));
  const capture = new URL("./testdata/offers.zsh", import.meta.url).pathname;
  const { code, out, err } = await run(["zsh", "-f", capture, folder, line], "");
  equal(code, 0, err);
  return out.split("\n").filter((word) => word !== "");
}

for (const [shell, offers] of [["zsh", zshOffers], ["fish", fishOffers]] as const) {
  Deno.test({
    name: `${shell} offers commands, verbs, flags, values and live names where they may stand`,
    ignore: !await has(shell),
    fn: async () => {
      const cases: [line: string, offered: string[]][] = [
        ["weir pol", ["policy"]],
        ["weir policy ", ["accept-database", "apply", "delete", "explain", "get", "list"]],
        ["weir service pool l", ["list"]],
        ["weir policy explain --di", ["--direction"]],
        ["weir policy list -o j", ["json"]],
        ["weir --lab policy endpoint la", ["label"]],
        ["weir help uni", ["uninstall"]],
        ["weir endpoint get ", ["endpoints-a", "endpoints-b"]],
        ["weir policy delete policies-b", ["policies-b"]],
        ["weir status --node ", ["nodes-a", "nodes-b"]],
      ];
      const folder = await Deno.makeTempDir();
      try {
        for (const [line, offered] of cases) deepEqual((await offers(line, folder)).sort(), offered, line);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

for (const shell of ["bash", "zsh", "fish"]) {
  Deno.test({
    name: `the completion for ${shell} is a program of ${shell}`,
    ignore: !await has(shell),
    fn: async () => {
      const { code, err } = await run([shell, "-n"], completionScript(shell, MANUALS));
      equal(code, 0, err);
      equal(err, "");
    },
  });
}

Deno.test({
  name: "every man page is sound roff and has what help has",
  ignore: !await has("groff"),
  fn: async () => {
    const pages = manPages(MANUALS, "0.0.0");
    deepEqual(
      [...pages.keys()].sort(),
      ["weir.1", ...Object.keys(MANUALS).map((name) => `weir-${name}.1`)].sort(),
    );
    for (const [file, roff] of pages) {
      const { code, out, err } = await run(["groff", "-man", "-Tutf8", "-ww", "-rLL=200n"], roff);
      equal(code, 0, `${file}: ${err}`);
      equal(err, "", file);
      ok(out.length > 200, file);
    }
    const { out } = await run(["groff", "-man", "-Tascii", "-P-c"], pages.get("weir-policy.1")!);
    for (const wanted of ["weir policy explain", "--dry-run", "CiliumNetworkPolicy", "EXIT STATUS"]) {
      // deno-lint-ignore no-control-regex
      ok(out.replace(/.\x08/g, "").includes(wanted), wanted);
    }
  },
});
