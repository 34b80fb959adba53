/**
 * An upgrade in place from an older version, with traffic that goes on: what it left in databases, files and pins is taken over, and of connections
 * that the L7 proxy judges those that were held are made anew.
 * Only where WEIR_UPGRADE_FROM names the commit, for the older version must be built:
 *
 *     WEIR_UPGRADE_FROM=bb843b6 iso deno test -A tests/faults/upgrade_test.ts
 *
 * @module
 */
import assert from "node:assert/strict";
import { canRun, Lab, run } from "../e2e/weir.ts";
import { until } from "@weir/common/testing/until";
import { CAST, clients, isWell, pod, processes, signal, TRAFFIC, Witness } from "./faulty_lab.ts";
import { allows, Load, WEB } from "./l7_load.ts";

const from = Deno.env.get("WEIR_UPGRADE_FROM");
if (from === undefined) console.log("SKIP tests/faults/upgrade_test.ts: WEIR_UPGRADE_FROM names no commit");

async function must(command: string, ...args: string[]): Promise<string> {
  const ran = await run(command, args);
  assert.equal(ran.code, 0, `${command} ${args.join(" ")}: ${ran.out}${ran.err}`);
  return ran.out;
}

/** A service with two backends. */
const SERVICE = `apiVersion: v1
kind: Service
metadata: { name: servers, namespace: default }
spec: { selector: { app: server }, ports: [{ port: 80, protocol: TCP }] }
`;

Deno.test({
  name:
    `an upgrade in place from ${from}: no connection is lost, no policy, number, address or service, and nothing passes unjudged`,
  ignore: !canRun || from === undefined,
  async fn() {
    const tree = await Deno.makeTempDir({ prefix: "weir-upgrade-" });
    const lab = new Lab(`upg${Deno.pid}`);
    const old = (...words: string[]) => must(`${tree}/scripts/weir`, "--lab", lab.name, ...words);
    try {
      await must("bash", "-ec", 'git archive "$1" | tar x -C "$2"; cp -r .build "$2"', "_", from!, tree);
      await must("bash", "-ec", 'cd "$1" && deno run -A scripts/build.ts', "_", tree);
      await Deno.writeTextFile(`${tree}/cast.yaml`, [CAST, SERVICE, WEB].join("---\n"));
      await must(
        `${tree}/scripts/weir`,
        "lab",
        "up",
        "--lab",
        lab.name,
        "--nodes",
        "2",
        "-f",
        `${tree}/cast.yaml`,
      );
      const facts = async (weir: (...words: string[]) => Promise<string>) => {
        const endpoints = JSON.parse(await weir("endpoint", "list", "-o", "json"));
        const services = JSON.parse(await weir("service", "list", "-o", "json"));
        return {
          // Older versions do not list the nodes themselves.
          endpoints: endpoints.filter(({ name }: Row) => !name.startsWith("reserved:")).map((
            { name, status: { identity, ipv4, ipv6 } }: Row,
          ) => [name, identity, ipv4, ipv6]),
          services: services.map((
            { name, clusterIps, ports }: Service,
          ) => [name, clusterIps, ports.map(({ id }) => id)]),
        };
      };
      await lab.expect(TRAFFIC);
      await lab.apply(allows("/a"));
      await using load = await Load.begin(lab);
      await load.isJudged("/a", "by the older version");
      const before = await facts(old);
      await using witness = await Witness.begin(lab);

      // The new version in the place of the older one, and each agent is started anew by whoever watches it.
      const keep = ["cast.yaml"];
      for (const { name } of [...Deno.readDirSync(tree)]) {
        if (!keep.includes(name)) await Deno.remove(`${tree}/${name}`, { recursive: true });
      }
      await must(
        "bash",
        "-ec",
        'git ls-files -z | xargs -0 cp --parents -t "$1"; cp -r .build "$1"',
        "_",
        tree,
      );
      for (const node of ["node-1", "node-2"]) {
        const agent = (await processes(lab)).find(({ role, node: of }) => role === "agent" && of === node);
        assert.ok(agent, `lab list names the agent of ${node}`);
        signal(agent.pid, "SIGTERM");
        await until(`the agent of ${node} is another one`, async () => {
          const now = (await processes(lab)).find(({ role, node: of }) => role === "agent" && of === node);
          return now !== undefined && now.pid > 0 && now.pid !== agent.pid;
        });
        await until(
          `its state is the new version's`,
          async () =>
            await Deno.stat(`/var/lib/weir/${lab.name}-${node}/version.json`).then(() => true, () => false),
        );
        await witness.goesOn(`after the upgrade of ${node}`);
        await load.isJudged("/a", `after the upgrade of ${node}`);
        assert.equal(load.now.silent + load.now.failed, 0, "whoever loses its connection hears so");
      }
      await isWell(lab);
      assert.deepEqual(
        await facts((...words) => lab.ok(words)),
        before,
        "endpoints and services are what they were",
      );
      await lab.put(pod("late-2", 2));
      await lab.apply(clients("client", "late"));
      await lab.expect(["from: late-2, to: server-1, port: 80, expect: allow", ...TRAFFIC]);
      await lab.apply(allows("/b"));
      await load.isJudged("/b", "with a policy of the new version");
      await witness.goesOn("in the end");
    } finally {
      await lab.down();
      await Deno.remove(tree, { recursive: true });
    }
  },
});

interface Row {
  name: string;
  status: { identity: number; ipv4: string; ipv6: string };
}

interface Service {
  name: string;
  clusterIps: string[];
  ports: { id: number }[];
}
