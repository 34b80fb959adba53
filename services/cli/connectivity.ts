/** `weir connectivity test`: scenarios of real traffic against a lab, this host, or a cluster of Kubernetes. @module */
import {
  allScenarios,
  type FlowValidation,
  HostTarget,
  junitText,
  LabTarget,
  lacking,
  LANES_MAX,
  type Pair,
  runScenarios,
  type ScenarioResult,
  type Target,
} from "@weir/connectivity";
import { flag, noWords, parse, type ParsedArgs, text, texts } from "./args.ts";
import { clientOf } from "./clients.ts";
import { CommandContext, type CommandIo, type ServiceName, UsageError } from "./context.ts";
import { explainCommand } from "./explain/command.ts";
import { KUBERNETES_OPTIONS, meansKubernetes } from "./kubernetes_options.ts";
import { table } from "./output.ts";
import { unknownVerb } from "./suggestion.ts";

const HINT = "weir help connectivity";
const LANES_DEFAULT = 3, ANSWER_MS_DEFAULT = 10_000;
const VALIDATIONS = ["disabled", "warning", "strict"], FORMS = ["table", "json", "junit"];

/** Runs the command. */
export async function connectivityCommand(args: string[], context: CommandContext): Promise<number> {
  const [verb, ...rest] = args;
  if (verb !== "test") throw unknownVerb("connectivity", verb, ["test"]);
  const parsed = parse(rest, {
    test: { type: "string", multiple: true },
    list: { type: "boolean" },
    "flow-validation": { type: "string" },
    concurrency: { type: "string" },
    timeout: { type: "string" },
    "expected-drop-reason": { type: "string", multiple: true },
    keep: { type: "boolean" },
    output: { type: "string", short: "o" },
    ...KUBERNETES_OPTIONS,
    image: { type: "string" },
  }, HINT);
  noWords(parsed, HINT);
  const isMeant = nameFilter(texts(parsed, "test"));
  const flowValidation = oneOf("flow-validation", text(parsed, "flow-validation") ?? "strict", VALIDATIONS);
  const form = oneOf("output", text(parsed, "output") ?? "table", FORMS);
  const lanes = Number(text(parsed, "concurrency") ?? LANES_DEFAULT);
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > LANES_MAX) {
    throw new UsageError(`--concurrency is ${text(parsed, "concurrency")}: expected 1 to ${LANES_MAX}`, HINT);
  }
  const answerMsMax = milliseconds(text(parsed, "timeout"));
  if (context.flags.server !== undefined) {
    throw new UsageError("weir connectivity test takes no --server", HINT);
  }
  await using tested = await testedOf(parsed, context);
  const { target } = tested;
  if (flag(parsed, "list")) {
    context.io.out(listText(target, isMeant));
    return 0;
  }
  await using _hold = await tested.hold();
  const quiet = form !== "table";
  const results = await runScenarios({
    target,
    isMeant,
    flowValidation: flowValidation as FlowValidation,
    answerMsMax,
    lanes,
    keep: flag(parsed, "keep"),
    signal: context.io.interrupted,
    explain: (pair) => explained(pair, context.io, tested.context),
    expectedDropReasons: texts(parsed, "expected-drop-reason"),
    report: (result) => quiet || context.io.out(resultText(result)),
    progress: (said) => context.io.err(`${said}\n`),
  });
  if (form === "json") context.io.out(JSON.stringify({ target: target.title, results }, null, 2) + "\n");
  if (form === "junit") context.io.out(junitText(results, target.title));
  if (form === "table") context.io.out(summaryText(results, target));
  if (context.io.interrupted.aborted) {
    context.io.err("weir: interrupted: not every scenario has run\n");
    return 1;
  }
  return results.some(({ state }) => state === "failed") ? 1 : 0;
}

/** What is tested, and how it is held and asked. */
interface Tested extends AsyncDisposable {
  readonly target: Target;
  /** Of commands that ask its services. */
  context(io: CommandIo): CommandContext;
  /** Held while scenarios run. @throws {Error} another run holds it */
  hold(): Promise<AsyncDisposable>;
}

async function testedOf(parsed: ParsedArgs, context: CommandContext): Promise<Tested> {
  if (meansKubernetes(context, parsed)) {
    if (context.flags.lab ?? context.flags.node) {
      throw new UsageError("weir connectivity test on Kubernetes takes no --lab and no --node", HINT);
    }
    return await (await import("./connectivity_kubernetes.ts")).openTestedCluster(context, HINT, parsed);
  }
  if (text(parsed, "image") !== undefined) {
    throw new UsageError(
      "--image is for pods of Kubernetes: say --kubernetes, --kubeconfig or --context",
      HINT,
    );
  }
  if (Deno.uid() !== 0) throw new Error("Cannot enter network namespaces: it needs root");
  return {
    target: await targetOf(context),
    context: (io) => new CommandContext(io, context.flags, context.run),
    hold: () => {
      const lock = lockOf(context);
      return Promise.resolve({ [Symbol.asyncDispose]: () => Promise.resolve(lock.close()) });
    },
    [Symbol.asyncDispose]: () => Promise.resolve(),
  };
}

/** Held while scenarios run: two runs would take each other's pods away. @throws {Error} another run holds it */
function lockOf(context: CommandContext): Deno.FsFile {
  const lab = context.lab();
  const directory = lab === undefined ? context.node().directory : `${context.run.path}/lab/${lab.name}`;
  const file = Deno.openSync(`${directory}/connectivity.lock`, { create: true, write: true });
  if (file.tryLockSync(true)) return file;
  file.close();
  throw new Error("Cannot begin: weir connectivity test runs here already");
}

async function targetOf(context: CommandContext): Promise<Target> {
  const access = {
    client: (service: string, node?: string) =>
      clientOf(context, service as ServiceName, context.nodes().find((target) => target.node === node)),
  };
  const lab = context.lab();
  if (lab === undefined) return await HostTarget.open({ node: context.flags.node, access });
  return await LabTarget.open({ lab: lab.name, directory: `${context.run.path}/lab/${lab.name}`, access });
}

/** What `weir explain` prints of a connection. */
async function explained(
  { from, to, port }: Pair,
  own: CommandIo,
  contextOf: Tested["context"],
): Promise<string> {
  let said = "";
  const io = { ...own, interrupted: own.interrupted, out: (text: string) => void (said += text) };
  await explainCommand(["--from", from, "--to", to, "--port", port], contextOf(io));
  return said;
}

function nameFilter(patterns: readonly string[]): (name: string) => boolean {
  const expressions = patterns.map((pattern) => {
    try {
      return new RegExp(pattern);
    } catch (error) {
      throw new UsageError(
        `Cannot read --test ${JSON.stringify(pattern)}: ${(error as Error).message}`,
        HINT,
      );
    }
  });
  const isMeant = (name: string) =>
    expressions.length === 0 || expressions.some((expression) => expression.test(name));
  if (allScenarios().some(({ name }) => isMeant(name))) return isMeant;
  throw new UsageError(`No scenario matches ${patterns.join(", ")}`, "weir connectivity test --list");
}

function oneOf(name: string, value: string, values: readonly string[]): string {
  if (values.includes(value)) return value;
  throw new UsageError(`--${name} is "${value}": expected ${values.join(", ")}`, HINT);
}

function milliseconds(value: string | undefined): number {
  if (value === undefined) return ANSWER_MS_DEFAULT;
  const [, number, unit] = /^(\d{1,6})(ms|s)$/.exec(value) ?? [];
  const ms = Number(number) * (unit === "s" ? 1000 : 1);
  if (ms > 0 && ms <= 600_000) return ms;
  throw new UsageError(`--timeout is "${value}": expected a time up to 600s, such as 500ms or 10s`, HINT);
}

function listText(target: Target, isMeant: (name: string) => boolean): string {
  const rows = allScenarios().filter(({ name }) => isMeant(name)).map((scenario) => {
    const reason = lacking(scenario, target);
    return [scenario.name, reason === undefined ? "" : `skipped: ${reason}`, scenario.says];
  });
  return table(
    ["SCENARIO", "STATE", "WHAT IT SHOWS"],
    rows.map(([name, state, says]) => [name, state || "-", says]),
    true,
  );
}

const MARKS = { passed: "ok", warned: "warned", failed: "FAILED", skipped: "skipped" };

function resultText({ name, state, seconds, faults, reason }: ScenarioResult): string {
  const head = `${MARKS[state].padEnd(8)}${name}${
    state === "skipped" ? `: ${reason}` : ` (${seconds.toFixed(1)} s)`
  }\n`;
  const lines = faults.flatMap(({ what, wrong, look }) => [
    `  ${what}`,
    ...wrong.map((line) => `    ${line}`),
    ...look.map((line, index) => index === 0 ? `    look at: ${line}` : `             ${line}`),
  ]);
  return head + lines.map((line) => `${line}\n`).join("");
}

function summaryText(results: readonly ScenarioResult[], { title }: Target): string {
  const count = (state: ScenarioResult["state"]) => results.filter((result) => result.state === state).length;
  const failed = results.filter(({ state }) => state === "failed").map(({ name }) => name);
  const parts = [`${count("passed")} passed`, `${failed.length} failed`, `${count("skipped")} skipped`];
  if (count("warned") > 0) parts.splice(1, 0, `${count("warned")} warned`);
  return `${title}: ${parts.join(", ")}${failed.length === 0 ? "" : `: ${failed.join(", ")}`}\n`;
}
