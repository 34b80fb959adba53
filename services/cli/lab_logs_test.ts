import { deepEqual, equal, throws } from "node:assert/strict";
import { CommandContext, type CommandIo } from "./context.ts";
import { labLogs, sourcesOf } from "./lab_logs.ts";
import { RunDirectory } from "./run_directory.ts";

const files = [
  "default.web.app.log",
  "default.web.side.log",
  "shop.web.app.log",
  "shop.db.pg.log",
  "node-1.agent.log",
];
const about = { files, nodes: ["node-1", "node-2"], directory: "/d" };

Deno.test("sourcesOf() finds the files of a node, a pod and a service", () => {
  const paths = (name: string | undefined, node?: string) =>
    sourcesOf(name, { ...about, node }).map(({ path, service }) => `${path}${service ? ` ${service}` : ""}`);
  deepEqual(paths("node-2"), ["/d/logs/node-2.agent.log"]);
  deepEqual(paths("web"), ["/d/logs/default.web.app.log", "/d/logs/default.web.side.log"]);
  deepEqual(paths("shop/web"), ["/d/logs/shop.web.app.log"]);
  deepEqual(paths("db"), ["/d/logs/shop.db.pg.log"]);
  deepEqual(paths("datapath"), ["/d/logs/node-1.agent.log datapath", "/d/logs/node-2.agent.log datapath"]);
  deepEqual(paths("datapath", "node-1"), ["/d/logs/node-1.agent.log datapath"]);
  deepEqual(paths(undefined, "node-1"), ["/d/logs/node-1.agent.log"]);
  throws(() => paths("datapaht"), /did you mean "datapath"/);
  throws(() => paths(undefined), /Say whose logs: a node, a pod or a service of node-1/);
});

Deno.test("weir lab logs shows the last lines of one service only", async () => {
  const root = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${root}/lab/l/logs`, { recursive: true });
    const record = { name: "l", nodes: ["node-1"], controlPlane: "l-node-1", pid: 1, state: "ready" };
    await Deno.writeTextFile(`${root}/lab/l/lab.json`, JSON.stringify(record));
    const line = (service: string, n: number) => JSON.stringify({ time: "t", level: "info", service, n });
    const lines = [line("datapath", 1), line("policy-engine", 2), "datapath ready", line("datapath", 3)];
    await Deno.writeTextFile(`${root}/lab/l/logs/node-1.agent.log`, lines.join("\n") + "\n");
    const run = async (...args: string[]) => {
      let out = "";
      const io: CommandIo = {
        out: (text) => out += text,
        err: () => {},
        terminal: false,
        readStdin: () => Promise.resolve(""),
        interrupted: new AbortController().signal,
      };
      equal(await labLogs(args, new CommandContext(io, {}, new RunDirectory(root))), 0);
      return out;
    };
    equal(await run("datapath"), `${lines[0]}\n${lines[3]}\n`);
    equal(await run("datapath", "--tail", "1"), `${lines[3]}\n`);
    equal(await run("agent"), "datapath ready\n");
    equal(await run("node-1"), lines.join("\n") + "\n");
  } finally {
    await Deno.remove(root, { recursive: true });
  }
});
