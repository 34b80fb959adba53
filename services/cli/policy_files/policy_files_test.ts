import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";

const command = fileURLToPath(new URL("../main.ts", import.meta.url));

/** Runs the command with no more rights than reading. */
function run(...args: string[]): { code: number; out: string; err: string } {
  try {
    const allow = ["--allow-read", "--allow-env", "--allow-sys=osRelease"];
    const out = execFileSync(Deno.execPath(), ["run", "--no-prompt", ...allow, command, "policy", ...args], {
      stdio: "pipe",
    });
    return { code: 0, out: out.toString(), err: "" };
  } catch (error) {
    const failed = error as { status: number; stdout: Uint8Array; stderr: Uint8Array };
    return { code: failed.status, out: String(failed.stdout), err: String(failed.stderr) };
  }
}

const policy = (...apps: string[]) =>
  `apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: { name: db, namespace: shop }\nspec:\n` +
  `  endpointSelector: { matchLabels: { app: db } }\n  ingress:\n  - fromEndpoints:\n${
    apps.map((app) => `    - matchLabels: { app: ${app} }\n`).join("")
  }    toPorts: [{ ports: [{ port: "5432", protocol: TCP }] }]\n`;
const pod = (name: string) =>
  `apiVersion: v1\nkind: Pod\nmetadata: { name: "${name}", namespace: shop, labels: { app: ${name} } }\nspec: {}\n`;

async function withFiles(body: (directory: string) => void): Promise<void> {
  const directory = await Deno.makeTempDir({ prefix: "weir-policy-files-" });
  try {
    for (
      const [name, text] of [
        ["old/policies/db.yaml", policy("web")],
        ["new/policies/db.yaml", policy("web", "job")],
        ["old/values.yaml", "replicas: 2\n"],
        ["bad/db.yaml", policy("web").replace("ingress", "ingres")],
        ["odd.yaml", policy("web").replace("name: db", "name: odd").replace("app: db", "app: wbe")],
        ["pods.yaml", ["web", "job", "db"].map(pod).join("---\n")],
      ]
    ) {
      await Deno.mkdir(`${directory}/${name.replace(/[^/]*$/, "")}`, { recursive: true });
      await Deno.writeTextFile(`${directory}/${name}`, text);
    }
    body(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

Deno.test("weir policy diff reads directories, names the rule's place, and exits with 3 when something opens", async () => {
  await withFiles((directory) => {
    const [old, fresh, shared] = ["old", "new", "pods.yaml"].map((name) => `${directory}/${name}`);
    const opens = run("diff", old, fresh);
    assert.equal(opens.code, 3, opens.err);
    assert.match(
      opens.out,
      /^OPENS +app=job in shop +app=db in shop +5432\/TCP +1 +cnp:shop\/db .*db\.yaml:9\)$/m,
    );
    assert.match(opens.err, /1 without a kind left out/);
    const closes = run("diff", fresh, old, "-f", shared, "-o", "json");
    assert.equal(closes.code, 0, closes.err);
    const [{ effect, from, to, ports }] = JSON.parse(closes.out).differences;
    assert.deepEqual([effect, from.name, to.name, ports], ["closes", "shop/job", "shop/db", "5432/TCP"]);
    const sarif = JSON.parse(run("diff", old, fresh, "-o", "sarif").out);
    const [result] = sarif.runs[0].results;
    assert.equal(result.level, "warning");
    assert.deepEqual(result.locations[0].physicalLocation.region, { startLine: 9 });
    assert.match(
      run("diff", old, fresh, "-o", "markdown").out,
      /^\*\*1 open, 0 close\*\*[^]*\| \*\*opens\*\* \|/,
    );
    assert.match(run("diff", old, old).out, /say the same/);
  });
});

Deno.test("weir policy matrix has a table, a list, JSON and a picture of who reaches whom", async () => {
  await withFiles((directory) => {
    const files = ["-f", `${directory}/pods.yaml`, "-f", `${directory}/old/policies`];
    const grid = run("matrix", ...files, "--ports", "5432/TCP,53/UDP");
    assert.equal(grid.code, 0, grid.err);
    assert.match(grid.out, /^3 shop\/web +b +a +a /m);
    assert.match(grid.out, /^b +5432\/TCP$/m);
    assert.match(run("matrix", ...files, "-o", "list").out, /^shop\/web +shop\/db +5432\/TCP +-$/m);
    const pairs = JSON.parse(run("matrix", ...files, "-o", "json").out).pairs as {
      from: string;
      to: string;
      ports: string;
    }[];
    assert.equal(pairs.find(({ from, to }) => from === "shop/job" && to === "shop/db")?.ports, "");
    const svg = run("matrix", ...files, "-o", "svg").out;
    assert.match(svg, /^<svg [^]*<title>shop\/web to shop\/db: some ports \(5432\/TCP\)<\/title>/);
    assert.doesNotMatch(svg, /<script|href/);
  });
});

Deno.test("weir policy matrix and diff refuse what they cannot judge, with file and line", async () => {
  await withFiles((directory) => {
    const bad = run("diff", `${directory}/old`, `${directory}/bad`);
    assert.equal(bad.code, 2);
    assert.match(bad.err, /bad\/db\.yaml:6:3 .*unknown field "ingres", did you mean ingress\?/);
    assert.match(run("matrix", "-f", `${directory}/old`).err, /no workload/);
    assert.match(
      run("matrix", "-f", `${directory}/pods.yaml`, "--ports", "80/HTTP").err,
      /Cannot read port "80\/HTTP"/,
    );
    assert.match(run("matrix", "-f", `${directory}/pods.yaml`, "-o", "lst").err, /did you mean "list"/);
    assert.equal(run("diff", `${directory}/old`).code, 2);
    assert.match(run("diff", `${directory}/old`, `${directory}/none`).err, /no such file or directory/);
  });
});

Deno.test("weir policy check names each finding's place in every form, and exits with 3 for all but notes", async () => {
  await withFiles((directory) => {
    const files = ["-f", `${directory}/pods.yaml`, "-f", `${directory}/new/policies`];
    const sound = run("check", ...files);
    assert.deepEqual([sound.code, sound.out], [0, "Nothing found in 1 policy\n"], sound.err);
    const alone = run("check", "-f", `${directory}/new`);
    assert.equal(alone.code, 0);
    const bad = run("check", "-f", `${directory}/bad`, "-o", "sarif");
    assert.equal(bad.code, 3, bad.err);
    const [fault] = JSON.parse(bad.out).runs[0].results;
    assert.equal(fault.level, "error");
    assert.deepEqual(fault.locations[0].physicalLocation.region.startLine, 5);
    const nobody = run("check", ...files, "-f", `${directory}/odd.yaml`);
    assert.equal(nobody.code, 3);
    assert.match(
      nobody.out,
      /^WARNING +selects-nobody +\S+odd\.yaml:5 +cnp:shop\/odd spec +no pod has app=wbe/m,
    );
    const [one] =
      JSON.parse(run("check", ...files, "-f", `${directory}/odd.yaml`, "-o", "json").out).findings;
    assert.deepEqual([one.id, one.severity, one.line], ["selects-nobody", "warning", 5]);
    assert.match(run("check", ...files, "-o", "yml").err, /Unknown output form "yml"/);
  });
});
