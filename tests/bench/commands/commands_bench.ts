/**
 * What the commands of `weir` cost in an idle lab of two nodes, beside starting Deno for nothing; beside another version of the
 * command line in the same run, which asks the same lab. Rounds are interleaved, so that who is disturbed is all of them.
 *
 *     iso deno run -A tests/bench/commands/commands_bench.ts [--before FOLDER] [--rounds 7]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { Lab } from "../../e2e/weir.ts";
import { CAST } from "../../incidents/cast.ts";

const COMMANDS: readonly string[] = [
  "version",
  "help",
  "status",
  "endpoint list",
  "endpoint get shop/web-1",
  "identity list",
  "policy list",
  "service list",
  "service get shop/web",
  "explain --from shop/client --to shop/web-2 -p 8080",
  "explain --from shop/client --to service/web -n shop -p 80",
  "observe --last 20",
  "top troubles",
  "top conntrack",
  "bpf policy list",
  "bpf ipcache list",
  "bpf ct list",
  "bpf lb list",
  "bpf prog list",
  "lab status",
  "completion names endpoints",
];

const OBJECTS = `---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { selector: { app: web }, ports: [{ port: 80, targetPort: 8080 }] }
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: { name: web, namespace: shop }
spec: { endpointSelector: { matchLabels: { app: web } }, ingress: [{ fromEndpoints: [{}] }] }
`;

const ROOT = new URL("../../../", import.meta.url).pathname.replace(/\/$/, "");

/** Milliseconds of one run. */
interface Cost {
  readonly wall: number;
  /** Of the processor, user and system, of the command alone. */
  readonly cpu: number;
}

async function run(command: string): Promise<Cost> {
  const { stderr } = await new Deno.Command("bash", {
    args: ["-c", `TIMEFORMAT="weir-time %R %U %S"; time { ${command} ; } >/dev/null 2>&1`],
    stdin: "null",
  }).output();
  const match = /weir-time (\S+) (\S+) (\S+)/.exec(new TextDecoder().decode(stderr));
  if (match === null) throw new Error(`Cannot time ${command}: ${new TextDecoder().decode(stderr)}`);
  const [wall, user, system] = match.slice(1).map((text) => Number(text) * 1000);
  return { wall, cpu: user + system };
}

/** The run that was disturbed least. */
function best(costs: readonly Cost[]): Cost {
  return { wall: Math.min(...costs.map(({ wall }) => wall)), cpu: Math.min(...costs.map(({ cpu }) => cpu)) };
}

function row(name: string, costs: readonly Cost[], base: Cost, before?: readonly Cost[]): string {
  const { wall, cpu } = best(costs);
  const then = before && best(before);
  const cells = [
    `${wall.toFixed(0)} ms`,
    `${cpu.toFixed(0)} ms`,
    `${(wall / base.wall).toFixed(1)}`,
    `${(cpu / base.cpu).toFixed(1)}`,
    ...(then === undefined ? [] : [(wall / then.wall).toFixed(2), (cpu / then.cpu).toFixed(2)]),
  ];
  return `| ${name} | ${cells.join(" | ")} |`;
}

if (import.meta.main) {
  const { values } = parseArgs({
    args: Deno.args,
    options: { before: { type: "string" }, rounds: { type: "string", default: "7" } },
  });
  const rounds = Number(values.rounds);
  const lab = new Lab(`bench${Deno.pid}`);
  try {
    await lab.up(2, CAST);
    await lab.ok(["lab", "apply", "-f", "-"], OBJECTS);
    await lab.inForce();
    const roots = [ROOT, ...(values.before === undefined ? [] : [values.before])];
    const costs = new Map<string, Cost[]>();
    const take = async (name: string, command: string) => {
      const list = costs.get(name) ?? [];
      list.push(await run(command));
      costs.set(name, list);
    };
    for (let round = 0; round < rounds; round++) {
      await take("deno eval ''", "deno eval ''");
      for (const command of COMMANDS) {
        for (const [index, root] of roots.entries()) {
          await take(`${index} ${command}`, `${root}/scripts/weir --lab ${lab.name} ${command}`);
        }
      }
    }
    const base = best(costs.get("deno eval ''")!);
    const more = values.before === undefined ? "" : " to before, wall | to before, CPU |";
    console.log(`| command | wall | CPU | to deno, wall | to deno, CPU |${more}`);
    console.log(`| --- | --- | --- | --- | --- |${values.before === undefined ? "" : " --- | --- |"}`);
    console.log(row("deno eval ''", costs.get("deno eval ''")!, base));
    for (const command of COMMANDS) {
      console.log(row(command, costs.get(`0 ${command}`)!, base, costs.get(`1 ${command}`)));
    }
  } finally {
    await lab.down();
  }
}
