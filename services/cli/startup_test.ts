/** What a command loads before it does anything: everybody who types a command waits for it. @module */
import { deepEqual, ok } from "node:assert/strict";

interface Graph {
  readonly roots: readonly string[];
  readonly redirects?: Readonly<Record<string, string>>;
  readonly modules: readonly {
    readonly specifier: string;
    readonly dependencies?: readonly {
      readonly isDynamic?: boolean;
      readonly code?: { readonly specifier?: string };
    }[];
  }[];
}

/** Everything that is loaded with a file of this folder, as it is imported: what is imported later is not. */
async function loadedWith(file: string): Promise<string[]> {
  const { stdout } = await new Deno.Command(Deno.execPath(), {
    args: ["info", "--json", new URL(file, import.meta.url).href],
    env: { NO_COLOR: "1" },
  }).output();
  const graph: Graph = JSON.parse(new TextDecoder().decode(stdout));
  const modules = new Map(graph.modules.map((one) => [one.specifier, one]));
  const seen = new Set<string>();
  const waiting = [...graph.roots];
  for (let name = waiting.pop(); name !== undefined; name = waiting.pop()) {
    if (seen.has(name)) continue;
    seen.add(name);
    for (const { isDynamic, code } of modules.get(name)?.dependencies ?? []) {
      if (isDynamic || code?.specifier === undefined) continue;
      waiting.push(graph.redirects?.[code.specifier] ?? code.specifier);
    }
  }
  return [...seen];
}

const packagesOf = (names: readonly string[]) =>
  names.filter((name) => name.startsWith("npm:") || name === "node:crypto")
    .map((name) => name.replace(/^npm:\/?(@?[^@]+)@[^/]*/, "$1"))
    .sort();

Deno.test("help and version load no package, and nothing of messages", async () => {
  const loaded = await loadedWith("main.ts");
  ok(loaded.some((name) => name.endsWith("/help_text.ts")), loaded.join("\n"));
  deepEqual(packagesOf(loaded), []);
  deepEqual(loaded.filter((name) => name.includes("/proto/gen/root") || name.endsWith("/common/mod.ts")), []);
});

Deno.test("commands that ask services load what reads messages, and no server and no YAML", async () => {
  const files = [
    "status",
    "endpoint",
    "identity",
    "policy",
    "service",
    "explain/command",
    "observe/command",
    "top",
    "bpf",
    "lab",
  ];
  const found = await Promise.all(files.map(async (file) => {
    const loaded = await loadedWith(`${file}.ts`);
    return [file, packagesOf(loaded), loaded.filter((name) => name.endsWith("/common/mod.ts")).length];
  }));
  deepEqual(found, files.map((file) => [file, ["protobufjs/light.js"], 0]));
});
