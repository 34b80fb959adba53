import { deepEqual, match, ok, throws } from "node:assert/strict";
import { takeGlobalFlags } from "./args.ts";
import { help, MANUALS } from "./commands.ts";
import { flagsOf } from "./manual/manual.ts";

const root = new URL("../../", import.meta.url).pathname;

/** Lines that a person may copy: "  weir lab up -f DIR     what it does", with the words of the command alone. */
function examples(text: string): string[][] {
  return text.split("\n").filter((line) => /^ {0,2}(?:\S+=\S+ )*(?:scripts\/)?weir [a-z]/.test(line))
    // The synopsis of help is none.
    .filter((line) =>
      !/\[flags\]|[A-Z]{2,}(\.\.\.)?( |$)/.test(line.replace(/TOKEN|VERDICT|DROPPED|TCP/g, ""))
    )
    .map((line) =>
      line.trim().replace(/^(\S+=\S+ )*(scripts\/)?weir /, "").split(/ {2,}|#| [;&|<>]+ |; /)[0].trim()
    )
    .map((line) => line.split(/\s+/));
}

/** Why these words are no command line of the manual; undefined when they are one. */
function fault(words: readonly string[]): string | undefined {
  const end = words.indexOf("--");
  const { rest: [name, ...rest] } = takeGlobalFlags(end < 0 ? [...words] : words.slice(0, end));
  if (!Object.hasOwn(MANUALS, name)) return `there is no command ${name}`;
  const { verbs } = MANUALS[name];
  const verb = [`${rest[0]} ${rest[1]}`, rest[0], ""].find((verb) => Object.hasOwn(verbs, verb ?? "?"));
  if (verb === undefined) return `${name} has no verb ${rest[0]}`;
  const flags = flagsOf(verbs[verb].flags);
  const args = rest.slice(verb === "" ? 0 : verb.split(" ").length);
  for (let i = 0; i < args.length; i++) {
    if (!args[i].startsWith("-") || args[i] === "-") continue;
    const [dashed, inline] = args[i].split("=", 2);
    const found = flags.find((flag) => `--${flag.name}` === dashed || `-${flag.short}` === dashed);
    if (found === undefined) return `${name} ${verb} has no flag ${dashed}`;
    if (found.value === undefined) continue;
    const value = inline ?? args[++i];
    if (value === undefined) return `${dashed} has no value`;
    if (found.choices && !found.choices.includes(value)) return `${dashed} does not take ${value}`;
  }
  return undefined;
}

/** Files of this tree that an example names must be there. */
function missingFiles(words: readonly string[]): string[] {
  return words.filter((word) => word.startsWith("deploy/")).filter((word) => {
    try {
      Deno.statSync(root + word);
      return false;
    } catch {
      return true;
    }
  });
}

Deno.test("every example of help and of the README is a command line that the manual has, on files that are there", () => {
  const readme = Deno.readTextFileSync(`${root}README.md`);
  const found = [readme, help(undefined), ...Object.keys(MANUALS).map(help)].flatMap(examples);
  ok(found.length > 25, `only ${found.length} examples were found`);
  for (const words of found) {
    deepEqual([fault(words), missingFiles(words)], [undefined, []], `weir ${words.join(" ")}`);
  }
});

Deno.test("an example that is wrong is found", () => {
  const wrong: [string, RegExp][] = [
    ["polcy list", /no command/],
    ["policy lsit", /no verb/],
    ["policy list --all", /no flag/],
    ["policy list -o xml", /does not take xml/],
    ["policy apply -f", /no value/],
  ];
  for (const [line, expected] of wrong) match(fault(line.split(" ")) ?? "", expected, line);
  throws(() => deepEqual(missingFiles(["deploy/nowhere"]), []));
});
