/** scripts/kubernetes-cluster: a Kubernetes cluster of several nodes on this machine, for tests and for looking. @module */
import { type Asked, HELP, parse, parseE2e, UsageError } from "./command_line.ts";
import { Cluster, ClusterError, clusters, removeCluster } from "./cluster/cluster.ts";
import { CommandError, passThrough } from "./cluster/process.ts";
import { makeMoreParts, makeParts, MissingError } from "./parts/parts.ts";
import { NoGo } from "./parts/programs.ts";
import { summary } from "./upstream/report.ts";
import { chooseSpecs, runSpecs, surroundingsOf } from "./upstream/specs.ts";

const startMs = performance.now();
function say(text: string): void {
  console.error(`${((performance.now() - startMs) / 1000).toFixed(1).padStart(6)} s  ${text}`);
}

async function up({ options, cache, keep }: Asked): Promise<number> {
  await makeParts(cache, say);
  const { name } = options;
  const left = `what there is stays until \`down\` (${cache.cluster(name)})`;
  // Ending the cluster's processes ends what this one waits for: it fails, and what follows is said and done once.
  let interrupted = false;
  const interrupt = () => {
    interrupted = true;
    if (!keep) void removeCluster(name, cache).catch(() => {});
    else Deno.exit(EXIT_INTERRUPTED);
  };
  try {
    Deno.addSignalListener("SIGINT", interrupt);
    Deno.addSignalListener("SIGTERM", interrupt);
    const { directory } = await Cluster.up(options, cache, say);
    say(`cluster ${name} is up: ${directory}`);
    return 0;
  } catch (error) {
    if (error instanceof ClusterError) throw error;
    say(`${interrupted ? "interrupted" : "failed"}: ${keep ? left : "taking it down"}`);
    if (!keep) await removeCluster(name, cache);
    if (interrupted) return EXIT_INTERRUPTED;
    throw error;
  }
}

/** As shells have it. */
const EXIT_INTERRUPTED = 130;

async function status({ options: { name }, cache }: Asked): Promise<number> {
  const cluster = Cluster.open(name, cache);
  const { nodes, cni, audit, dualStack } = cluster.options;
  const kinds = [`CNI ${cni}`, ...dualStack ? ["dual-stack"] : [], ...audit ? ["audit log"] : []];
  console.log(`cluster ${name}: ${nodes} nodes, ${kinds.join(", ")}`);
  console.log(`kubeconfig ${cluster.kubeconfig} (inside the cluster's network)`);
  console.log(`logs       ${cluster.directory}/logs, ${cluster.directory}/node-*/*.log\n`);
  const others = clusters(cache).filter((other) => other !== name);
  if (others.length > 0) console.log(`other clusters: ${others.join(", ")}\n`);
  return await passThrough(cluster.inNetwork(["kubectl", "get", "nodes,pods", "-A", "-o", "wide"]));
}

/** Says which specs there are with --list, else runs them. */
async function e2e({ options: { name }, cache, words }: Asked): Promise<number> {
  const { list, procs, minutes, focus } = parseE2e(words);
  const cluster = Cluster.open(name, cache);
  const { chosen, leftOut } = await chooseSpecs(cache, focus, surroundingsOf(cluster));
  for (const { name, why } of leftOut) console.log(`left out: ${name}\n          ${why}`);
  if (list) console.log([...chosen, "", `${chosen.length} specs`].join("\n"));
  if (list || chosen.length === 0) {
    if (chosen.length === 0) console.error(`No spec to run matches ${focus.join(" or ")}`);
    return chosen.length === 0 ? 1 : 0;
  }
  say(`${chosen.length} specs, ${procs} at once; all that they say is in ${cluster.directory}/logs/e2e.log`);
  const results = await runSpecs(cluster, focus, { procs, minutes, say });
  console.log(`\n${summary(results)}`);
  return results.some(({ state }) => state === "failed") || results.length === 0 ? 1 : 0;
}

const COMMANDS: Record<string, (asked: Asked) => Promise<number>> = {
  up,
  status,
  e2e,
  async build({ cache, more }) {
    await makeParts(cache, say);
    if (more) await makeMoreParts(cache, say);
    say(`everything is there: ${cache.directory}`);
    return 0;
  },
  async down({ options: { name }, cache }) {
    await removeCluster(name, cache);
    say(`cluster ${name} is down`);
    return 0;
  },
  kubectl: ({ options: { name }, cache, words }) =>
    passThrough(Cluster.open(name, cache).inNetwork(["kubectl", ...words])),
  run: ({ options: { name }, cache, words }) => {
    if (words.length === 0) throw new UsageError("run COMMAND...");
    return passThrough(Cluster.open(name, cache).inNetwork(words));
  },
  node: ({ options: { name }, cache, words: [index, ...words] }) => {
    if (!/^[1-9]$/.test(index ?? "")) throw new UsageError("node I COMMAND...: I is 1 to 9");
    return passThrough(
      Cluster.open(name, cache).node(Number(index)).words(words.length > 0 ? words : ["bash"]),
    );
  },
  async reboot({ options: { name }, cache, words: [index] }) {
    if (!/^[1-9]$/.test(index ?? "")) throw new UsageError("reboot I: I is 1 to 9");
    await Cluster.open(name, cache).reboot(Number(index));
    say(`node ${index} has booted`);
    return 0;
  },
  async "api-server"({ options: { name }, cache, words: [verb] }) {
    const cluster = Cluster.open(name, cache);
    if (verb === "stop") await cluster.stopApiServer();
    else if (verb === "start") await cluster.startApiServer();
    else if (verb === "keep") await cluster.keepStore();
    else if (verb === "restore") await cluster.restoreStore();
    else throw new UsageError("api-server stop|start|keep|restore");
    say("done");
    return 0;
  },
  async import({ options: { name }, cache, words }) {
    if (words.length === 0) throw new UsageError("import ARCHIVE...");
    await Cluster.open(name, cache).importImages(words);
    say("imported");
    return 0;
  },
  help() {
    console.log(HELP.trimEnd());
    return Promise.resolve(0);
  },
};

/** Errors that a person can act on have no stack. */
function isExpected(error: unknown): error is Error {
  return [UsageError, ClusterError, CommandError, NoGo, MissingError].some((kind) => error instanceof kind);
}

try {
  const asked = parse(Deno.args);
  const command = COMMANDS[asked.command];
  if (!command) throw new UsageError(`Unknown command ${asked.command} (try --help)`);
  if (asked.command !== "help" && Deno.uid() !== 0) {
    throw new UsageError("Only root can make namespaces and mounts");
  }
  Deno.exit(await command(asked));
} catch (error) {
  console.error(`kubernetes-cluster: ${isExpected(error) ? error.message : (error as Error).stack}`);
  Deno.exit(error instanceof UsageError ? 2 : 1);
}
