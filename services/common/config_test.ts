import assert from "node:assert/strict";
import { type ConfigSpec, loadConfig } from "./config.ts";
import { ProblemError } from "./problem.ts";

const spec = {
  graceS: { kind: "number", default: 30, min: 0, max: 100 },
  socket: { kind: "text" },
  quick: { kind: "flag" },
  devices: { kind: "list" },
} as const satisfies ConfigSpec;
const load = (args: string[], env: Record<string, string> = {}, file = "") =>
  loadConfig(spec, { args, env: (n) => env[n], readFile: () => file });

Deno.test("loadConfig() takes flags before environment before file before default", () => {
  const env = { WEIR_GRACE_S: "20", WEIR_CONFIG: "/etc/weir.yaml" };
  assert.equal(load([]).graceS, 30);
  assert.equal(load([], { WEIR_CONFIG: "x" }, "graceS: 10").graceS, 10);
  assert.equal(load([], env, "graceS: 10").graceS, 20);
  assert.equal(load(["--grace-s", "5"], env, "graceS: 10").graceS, 5);
  assert.deepEqual(load(["--devices", "eth0,eth1", "--devices=eth2", "--quick"]), {
    graceS: 30,
    socket: undefined,
    quick: true,
    devices: ["eth0", "eth1", "eth2"],
  });
});

Deno.test("loadConfig() refuses what is out of range or unknown, and says where it was set", () => {
  const cases: [string[], Record<string, string>, string, RegExp][] = [
    [["--grace-s", "101"], {}, "", /from --grace-s: found 101, expected a number from 0 to 100/],
    [[], { WEIR_GRACE_S: "soon" }, "", /from WEIR_GRACE_S: found soon/],
    [["--config", "f.yaml"], {}, "gracS: 1", /found gracS, expected one of graceS/],
    [["--config", "f.yaml"], {}, "- a", /expected a mapping/],
    [["--nonsense"], {}, "", /--nonsense/],
    [["--socket"], {}, "", /expected a value/],
  ];
  for (const [args, env, file, pattern] of cases) {
    assert.throws(
      () => load(args, env, file),
      (e: Error) => e instanceof ProblemError && pattern.test(e.message),
    );
  }
});

Deno.test("loadConfig() takes a password from a file of its owner's, not from one that others may read, nor an argument", () => {
  const spec = { databaseUrl: { kind: "text", default: "" } } as const;
  const url = "postgres://weir:s3cret@db/weir";
  const load = (mode: number | undefined) =>
    loadConfig(spec, {
      args: ["--config", "/weir.yaml"],
      env: () => undefined,
      readFile: () => `databaseUrl: ${url}\n`,
      modeOf: () => mode,
    }).databaseUrl;
  assert.equal(load(0o100600), url);
  assert.throws(() => load(0o100644), /mode 0644, expected mode 0600/);
  assert.throws(() => load(0o100640), /mode 0640/);
  for (const args of [[`--database-url=${url}`], ["--database-url", "postgres://db/weir?password=s3cret"]]) {
    assert.throws(
      () => loadConfig(spec, { args, env: () => undefined }),
      (error: Error) => /WEIR_DATABASE_URL/.test(error.message) && !error.message.includes("s3cret"),
    );
  }
});
