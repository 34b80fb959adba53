import { equal, throws } from "node:assert/strict";
import { takeGlobalFlags } from "./args.ts";
import { CommandContext, type CommandIo, UsageError } from "./context.ts";
import { RunDirectory } from "./run_directory.ts";

const io: CommandIo = {
  out() {},
  err() {},
  terminal: false,
  readStdin: () => Promise.resolve(""),
  interrupted: new AbortController().signal,
};

function withLabs(names: string[], work: (run: RunDirectory) => void): void {
  const path = Deno.makeTempDirSync();
  try {
    for (const name of names) {
      Deno.mkdirSync(`${path}/lab/${name}`, { recursive: true });
      const record = {
        name,
        nodes: ["node-1", "node-2"],
        controlPlane: `${name}-node-1`,
        pid: 1,
        state: "ready",
      };
      Deno.writeTextFileSync(`${path}/lab/${name}/lab.json`, JSON.stringify(record));
    }
    Deno.mkdirSync(`${path}/lab/half-made`, { recursive: true });
    work(new RunDirectory(path));
  } finally {
    Deno.removeSync(path, { recursive: true });
  }
}

Deno.test("CommandContext means the only lab there is, else the host's own Weir", () => {
  withLabs(["a"], (run) => {
    const context = new CommandContext(io, {}, run);
    equal(context.address("datapath"), `unix:${run.path}/a-node-1/datapath.sock`);
    equal(context.nodes().length, 2);
  });
  withLabs([], (run) => {
    equal(new CommandContext(io, {}, run).address("datapath"), `unix:${run.path}/host/datapath.sock`);
  });
  withLabs(["a", "b"], (run) => {
    throws(() => new CommandContext(io, {}, run).lab(), UsageError);
    equal(new CommandContext(io, { lab: "b" }, run).lab()?.name, "b");
    throws(() => new CommandContext(io, { lab: "c" }, run).lab(), UsageError);
  });
});

Deno.test("CommandContext.address() asks cluster services at the control plane whatever --node says", () => {
  withLabs(["a"], (run) => {
    const context = new CommandContext(io, { node: "node-2" }, run);
    equal(context.address("policy-engine"), `unix:${run.path}/a-node-1/policy-engine.sock`);
    equal(context.address("endpoint-manager"), `unix:${run.path}/a-node-2/endpoint-manager.sock`);
    throws(() => new CommandContext(io, { node: "node-9" }, run).node(), UsageError);
    equal(new CommandContext(io, { server: "http://h:1" }, run).address("datapath"), "http://h:1");
  });
});

Deno.test("takeGlobalFlags() takes flags from anywhere before -- and leaves the rest alone", () => {
  const { flags, rest } = takeGlobalFlags([
    "lab",
    "--lab=x",
    "exec",
    "--node",
    "n",
    "p",
    "--",
    "cmd",
    "--lab",
    "y",
  ]);
  equal(flags.lab, "x");
  equal(flags.node, "n");
  equal(rest.join(" "), "lab exec p -- cmd --lab y");
  throws(() => takeGlobalFlags(["status", "--lab"]), UsageError);
});
