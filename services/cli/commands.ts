/**
 * The table of commands: what each does, its help, and where its code is. Code is loaded when it is asked for, so that
 * `weir observe` does not pay for `weir verify`.
 *
 * @module
 */
import type { Command } from "./context.ts";
import { UsageError } from "./context.ts";
import { helpText, overviewText } from "./help_text.ts";
import { CLUSTER, JOIN } from "./manual/cluster.ts";
import { CONNECTIVITY } from "./manual/connectivity.ts";
import { HUBBLE } from "./manual/hubble.ts";
import { ENDPOINT } from "./manual/endpoint.ts";
import { AGENT, COMPLETION, HELP, UNINSTALL, VERSION } from "./manual/host.ts";
import { BPF, IDENTITY, NAMES, STATUS, TOP } from "./manual/inspect.ts";
import { CONFIG, INSTALL, UPGRADE } from "./manual/kubernetes.ts";
import { LAB } from "./manual/lab.ts";
import { EXPLAIN } from "./manual/explain.ts";
import type { Manual } from "./manual/manual.ts";
import { MONITOR, OBSERVE } from "./manual/observe.ts";
import { POLICY } from "./manual/policy.ts";
import { SERVICE } from "./manual/service.ts";
import { SYSDUMP } from "./manual/sysdump.ts";
import { UI } from "./manual/ui.ts";
import { VERIFY } from "./manual/verify.ts";
import { didYouMean } from "./suggestion.ts";

/** One command. */
export interface CommandEntry {
  readonly manual: Manual;
  readonly load: () => Promise<Command>;
  /**
   * With a flag that means a cluster of Kubernetes: "services", it asks that cluster's services in place of this host's; "itself",
   * it speaks to the API server; undefined, it takes none.
   */
  readonly kubernetes?: "services" | "itself";
}

/** Every command by its name. */
export const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  status: {
    manual: STATUS,
    kubernetes: "itself",
    load: async () => (await import("./status.ts")).statusCommand,
  },
  endpoint: {
    manual: ENDPOINT,
    kubernetes: "services",
    load: async () => (await import("./endpoint.ts")).endpointCommand,
  },
  identity: {
    manual: IDENTITY,
    kubernetes: "services",
    load: async () => (await import("./identity.ts")).identityCommand,
  },
  names: {
    manual: NAMES,
    kubernetes: "services",
    load: async () => (await import("./names.ts")).namesCommand,
  },
  policy: {
    manual: POLICY,
    kubernetes: "services",
    load: async () => (await import("./policy.ts")).policyCommand,
  },
  explain: {
    manual: EXPLAIN,
    kubernetes: "services",
    load: async () => (await import("./explain/command.ts")).explainCommand,
  },
  service: {
    manual: SERVICE,
    kubernetes: "services",
    load: async () => (await import("./service.ts")).serviceCommand,
  },
  bpf: {
    manual: BPF,
    kubernetes: "services",
    load: async () => (await import("./bpf.ts")).bpfCommand,
  },
  top: {
    manual: TOP,
    kubernetes: "services",
    load: async () => (await import("./top.ts")).topCommand,
  },
  observe: {
    manual: OBSERVE,
    kubernetes: "services",
    load: async () => (await import("./observe/command.ts")).observeCommand,
  },
  monitor: {
    manual: MONITOR,
    kubernetes: "services",
    load: async () => (await import("./monitor.ts")).monitorCommand,
  },
  ui: {
    manual: UI,
    kubernetes: "itself",
    load: async () => (await import("./ui.ts")).uiCommand,
  },
  hubble: {
    manual: HUBBLE,
    kubernetes: "itself",
    load: async () => (await import("./hubble/command.ts")).hubbleCommand,
  },
  connectivity: {
    manual: CONNECTIVITY,
    kubernetes: "itself",
    load: async () => (await import("./connectivity.ts")).connectivityCommand,
  },
  sysdump: {
    manual: SYSDUMP,
    kubernetes: "itself",
    load: async () => (await import("./sysdump/command.ts")).sysdumpCommand,
  },
  verify: { manual: VERIFY, load: async () => (await import("./verify.ts")).verifyCommand },
  cluster: { manual: CLUSTER, load: async () => (await import("./cluster.ts")).clusterCommand },
  join: { manual: JOIN, load: async () => (await import("./join.ts")).joinCommand },
  install: {
    manual: INSTALL,
    kubernetes: "itself",
    load: async () => (await import("./install/install.ts")).installCommand,
  },
  upgrade: {
    manual: UPGRADE,
    kubernetes: "itself",
    load: async () => (await import("./install/install.ts")).upgradeCommand,
  },
  config: {
    manual: CONFIG,
    kubernetes: "itself",
    load: async () => (await import("./install/config.ts")).configCommand,
  },
  lab: { manual: LAB, load: async () => (await import("./lab.ts")).labCommand },
  agent: {
    manual: AGENT,
    load: () => Promise.reject(new UsageError("weir agent is started by scripts/weir: run it from there")),
  },
  uninstall: {
    manual: UNINSTALL,
    kubernetes: "itself",
    load: async () => (await import("./uninstall.ts")).uninstallCommand,
  },
  completion: { manual: COMPLETION, load: loadCompletion },
  help: { manual: HELP, load: () => Promise.resolve(helpCommand) },
  version: { manual: VERSION, load: () => Promise.resolve(versionCommand) },
};

/** Every command's manual by its name. */
export const MANUALS: Readonly<Record<string, Manual>> = Object.fromEntries(
  Object.entries(COMMANDS).map(([name, { manual }]) => [name, manual]),
);

/** Text of `weir help` or `weir help NAME`. */
export function help(name: string | undefined): string {
  if (name === undefined) return overviewText(MANUALS);
  if (!Object.hasOwn(MANUALS, name)) throw unknownCommand(name);
  return helpText(name, MANUALS[name]);
}

/** The error for a command that is not there. */
export function unknownCommand(name: string): UsageError {
  return new UsageError(`Unknown command "${name}"${didYouMean(name, Object.keys(COMMANDS))}`, "weir help");
}

async function loadCompletion(): Promise<Command> {
  const { completionCommand } = await import("./completion.ts");
  return (args, context) => completionCommand(args, context, MANUALS);
}

const helpCommand: Command = ([name, ...more], context) => {
  if (more.length > 0) throw new UsageError("Say one command: weir help COMMAND", "weir help");
  context.io.out(help(name));
  return Promise.resolve(0);
};

const versionCommand: Command = async (args, context) => {
  if (args.length > 0) throw new UsageError("weir version takes no words", "weir help");
  const { WEIR_VERSION } = await import("@weir/common/version");
  context.io.out(`weir ${WEIR_VERSION} (deno ${Deno.version.deno})\n`);
  return 0;
};
