import { equal, rejects } from "node:assert/strict";
import { CommandContext, type CommandIo, UsageError } from "./context.ts";
import { printLiveNames } from "./live_names.ts";
import { RunDirectory } from "./run_directory.ts";

Deno.test("weir completion names prints names, none that a shell would expand, and nothing where nobody answers", async () => {
  const root = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${root}/lab/l`, { recursive: true });
    const nodes = ["node-2", "node-1", "$(touch /tmp/x)", "`x`", "a b"];
    const record = { name: "l", nodes, controlPlane: "l-node-1", pid: 1, state: "ready" };
    await Deno.writeTextFile(`${root}/lab/l/lab.json`, JSON.stringify(record));
    let out = "";
    const io: CommandIo = {
      out: (text) => out += text,
      err: (text) => out += text,
      terminal: false,
      readStdin: () => Promise.resolve(""),
      interrupted: new AbortController().signal,
    };
    const context = new CommandContext(io, {}, new RunDirectory(root));
    equal(await printLiveNames("nodes", context), 0);
    equal(out, "node-1\nnode-2\n");
    equal(await printLiveNames("policies", context), 0);
    equal(await printLiveNames("endpoints", context), 0);
    equal(out, "node-1\nnode-2\n");
    await rejects(async () => await printLiveNames("polcies", context), UsageError);
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
