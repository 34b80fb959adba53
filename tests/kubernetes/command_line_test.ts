import assert from "node:assert/strict";
import { parse, parseE2e, UsageError } from "./command_line.ts";

Deno.test("parse() reads options of up in any order", () => {
  const { command, options, keep, cache } = parse(
    "--name a up --nodes 3 --cni reference --audit --cache /c --dual-stack --keep".split(" "),
  );
  assert.equal(command, "up");
  assert.deepEqual(options, { name: "a", nodes: 3, cni: "reference", audit: true, dualStack: true });
  assert.equal(keep, true);
  assert.equal(cache.directory, "/c");
});

Deno.test("parse() leaves another command's words to it", () => {
  const cases: [string, string, string[]][] = [
    ["kubectl --name a get pods --cache b", "a", ["get", "pods", "--cache", "b"]],
    ["--name a kubectl -n x get pods --help", "a", ["-n", "x", "get", "pods", "--help"]],
    ["node 2 ip --json route", "weir", ["2", "ip", "--json", "route"]],
    ["run deno test --name x", "weir", ["deno", "test", "--name", "x"]],
  ];
  for (const [line, name, words] of cases) {
    const asked = parse(line.split(" "));
    assert.equal(asked.options.name, name, line);
    assert.deepEqual(asked.words, words, line);
  }
});

Deno.test("parse() refuses what there is not", () => {
  for (
    const line of [
      "up --nodes 0",
      "up --nodes 10",
      "up --nodes two",
      "up --cni flannel",
      "up --name",
      "up --what",
      "--cache relative up",
    ]
  ) {
    assert.throws(() => parse(line.split(" ")), line.includes("--cache") ? Error : UsageError, line);
  }
});

Deno.test("parseE2e() reads options and regular expressions", () => {
  assert.deepEqual(parseE2e(["--procs", "3", "Netpol", "--list", "Services.*port", "--minutes", "5"]), {
    list: true,
    procs: 3,
    minutes: 5,
    focus: ["Netpol", "Services.*port"],
  });
  for (const words of [["--procs"], ["--procs", "0"], ["--minutes", "1e3"], ["--what"], ["("]]) {
    assert.throws(() => parseE2e(words), UsageError, words.join(" "));
  }
});
