import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { AGENT_CONFIG } from "@weir/agent/options";
import { loadConfig } from "@weir/common";
import { readFlowsQuery } from "@weir/flow-filter";
import { type OptionTable, UnknownOptionError } from "./args.ts";
import { COMMANDS, help, MANUALS } from "./commands.ts";
import { CommandContext, type CommandIo, UsageError } from "./context.ts";
import { flagsOf, GLOBAL_FLAGS } from "./manual/manual.ts";
import { readObserveArgs } from "./observe/request.ts";

const io: CommandIo = {
  out: () => {},
  err: () => {},
  terminal: false,
  readStdin: () => Promise.resolve(""),
  interrupted: new AbortController().signal,
};
const context = new CommandContext(io, { server: "unix:/nonexistent/weir.sock" });
/** Commands that do not read their words by `parse()`: each has a test of its own below. */
const OWN_PARSERS = ["agent", "help", "version"];

async function refusal(name: string, words: string[]): Promise<unknown> {
  const command = await COMMANDS[name].load();
  return await Promise.resolve().then(() => command(words, context)).then(() => undefined, (error) => error);
}

/** What a verb's parser accepts, as it says when it is given something else. */
async function accepted(name: string, verb: string): Promise<OptionTable> {
  const words = [...(verb === "" ? [] : verb.split(" ")), "--no-such-flag"];
  const error = await refusal(name, words);
  ok(error instanceof UnknownOptionError, `weir ${name} ${words.join(" ")}: ${error}`);
  return error.options;
}

for (const [name, { verbs }] of Object.entries(MANUALS)) {
  if (OWN_PARSERS.includes(name)) continue;
  for (const [verb, { flags }] of Object.entries(verbs)) {
    Deno.test(`the help of weir ${name} ${verb} has the flags that its parser accepts, and no others`, async () => {
      const said = flagsOf(flags).map(({ name, short, value, repeated }) => [
        name,
        { type: value === undefined ? "boolean" : "string", short, multiple: repeated },
      ]);
      const parsed = Object.entries(await accepted(name, verb)).map(([name, { type, short, multiple }]) => [
        name,
        { type, short, multiple: multiple ?? false },
      ]);
      deepEqual(Object.fromEntries(said), Object.fromEntries(parsed));
    });
  }
}

Deno.test("help names the verbs that a command has, and no others", async () => {
  for (const [name, { verbs }] of Object.entries(MANUALS)) {
    const names = [...new Set(Object.keys(verbs).map((verb) => verb.split(" ")[0]))];
    if (names.includes("")) continue;
    const error = await refusal(name, ["no-such-verb"]);
    ok(error instanceof UsageError, `${name}: ${error}`);
    const [, list] = /: expected (.*)$/.exec(error.message) ?? [];
    const known = list.split(/, | or /).filter((verb) => verb !== "ls"); // an alias of list
    deepEqual(names.sort(), known.sort(), name);
  }
});

Deno.test("the help of weir observe has the filters that the exporter knows, and no others", () => {
  const flags = flagsOf(MANUALS.observe.verbs[""].flags);
  const examples: Record<string, string> = {
    identity: "7",
    type: "drop",
    since: "5m",
    until: "1s",
    verdict: "DROPPED",
    "drop-reason": "POLICY_DENIED",
    "drop-reason-desc": "POLICY_DENIED",
    "traffic-direction": "INGRESS",
    color: "always",
    timeout: "5s",
    "group-by": "pod",
    "time-format": "RFC3339",
    allowlist: "{}",
    denylist: "{}",
    "ip-version": "4",
    "tcp-flags": "SYN",
    "http-header": "X-Id:7",
    output: "json",
  };
  for (const { name, short, value } of flags) {
    const example = examples[name] ?? examples[name.replace(/^(from|to)-/, "")] ?? "1";
    for (const word of [`--${name}`, ...(short === undefined ? [] : [`-${short}`])]) {
      if (name === "field-mask") continue; // of JSON alone
      const words = name === "not" ? [word, "--pod", "x"] : value === undefined ? [word] : [word, example];
      const { query } = readObserveArgs(words);
      const parameters = new URLSearchParams(
        Object.entries(query).flatMap(([key, values]) => values.map((each) => [key, each])),
      );
      ok(readFlowsQuery(parameters, 0), word);
    }
  }
  let expected = "";
  try {
    readFlowsQuery(new URLSearchParams("no-such-filter=1"), 0);
  } catch (error) {
    [, expected] = /expected one of (.*)$/.exec((error as Error).message)!;
  }
  const control = [
    ...["follow", "first", "last", "all", "since", "until", "not", "print-node-name", "output"],
    ...["allowlist", "denylist", "field-mask", "print-raw-filters", "input-file", "silent-errors", "color"],
    ...[
      "group-by",
      "time-format",
      "numeric",
      "ip-translation",
      "print-policy-names",
      "use-default-field-masks",
    ],
    ...["tls", "tls-allow-insecure", "tls-ca-cert-files", "tls-client-cert-file", "tls-client-key-file"],
    ...["tls-server-name", "timeout"],
    // Other words for values of a filter.
    ...[
      "ipv4",
      "ipv6",
      "all-namespaces",
      "from-all-namespaces",
      "to-all-namespaces",
      "unencrypted",
      "not-reply",
    ],
  ];
  deepEqual(flags.map(({ name }) => name).sort(), [...expected.split(", "), ...control].sort());
});

Deno.test("the help of weir agent has the options that the agent accepts, and no others", () => {
  const flags = flagsOf(MANUALS.agent.verbs[""].flags);
  const values: Record<string, string> = { TEXT: "x", LIST: "x", FILE: "/etc/weir.yaml" };
  const largest = (name: string) => {
    const key = name.replace(/-(.)/g, (_, first) => first.toUpperCase()) as keyof typeof AGENT_CONFIG;
    return `${Math.min(1000, (AGENT_CONFIG[key] as { max?: number }).max ?? 1000)}`;
  };
  const words = flags.flatMap(({ name, value }) =>
    value === undefined ? [`--${name}`] : [`--${name}`, value === "NUMBER" ? largest(name) : values[value]]
  );
  const env = () => undefined;
  ok(loadConfig(AGENT_CONFIG, { args: words, env, readFile: () => "" }));
  equal(flags.length, Object.keys(AGENT_CONFIG).length + 1);
});

Deno.test("help() says everything of every command and refuses a command that is not there", async () => {
  for (const [name, { summary, verbs }] of Object.entries(MANUALS)) {
    ok(help(undefined).includes(`  ${name} `), name);
    const text = help(name);
    ok(text.toLowerCase().includes(summary.toLowerCase()));
    for (const [verb, { flags }] of Object.entries(verbs)) {
      ok(text.includes(`weir ${name} ${verb}`.trim()), `${name} ${verb}`);
      for (const { text: flag } of flagsOf({ ...flags, ...GLOBAL_FLAGS })) ok(text.includes(flag), flag);
    }
    for (const line of text.split("\n")) ok(line.length <= 125, line);
  }
  await rejects(
    async () => await Promise.resolve(help("no-such-command")),
    /Unknown command "no-such-command"/,
  );
  match(String(await refusal("version", ["more"])), /takes no words/);
  match(String(await refusal("help", ["status", "more"])), /Say one command/);
});

Deno.test("flagsOf() reads every form and refuses another", () => {
  deepEqual(
    flagsOf({ "-o, --output table|json": "form", "--label KEY=VALUE...": "labels", "--wait": "wait" }),
    [
      {
        name: "output",
        short: "o",
        value: "table|json",
        choices: ["table", "json"],
        repeated: false,
        text: "-o, --output table|json",
        says: "form",
      },
      {
        name: "label",
        short: undefined,
        value: "KEY=VALUE",
        choices: undefined,
        repeated: true,
        text: "--label KEY=VALUE...",
        says: "labels",
      },
      {
        name: "wait",
        short: undefined,
        value: undefined,
        choices: undefined,
        repeated: false,
        text: "--wait",
        says: "wait",
      },
    ],
  );
  for (const wrong of ["output", "--Output", "-o --output", "--output A B"]) {
    let error: unknown;
    try {
      flagsOf({ [wrong]: "" });
    } catch (caught) {
      error = caught;
    }
    match(String(error), /Cannot read the flag/, wrong);
  }
});
