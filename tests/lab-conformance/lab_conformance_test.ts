/**
 * Cases of the conformance data in a lab: their policies through the real policy engine, and every pod pair, port and family with real packets.
 * Then random policies, of which the slow evaluator, the engine and the kernel must say the same. `WEIR_LAB_CASES=n` takes n cases, `WEIR_SEED=n`
 * other ones, `WEIR_LAB_ONLY=text` those whose name has the text.
 * @module
 */
import assert from "node:assert/strict";
import { Random } from "../conformance/random_policies.ts";
import { canRun } from "../e2e/weir.ts";
import { Bed } from "./bed.ts";
import { ciliumCases, kubernetesCases, type LabCase, RANDOM_MODEL, randomCase } from "./cases.ts";
import { Prober } from "./prober.ts";

const SEED = Number(Deno.env.get("WEIR_SEED") ?? 16), CASES = Number(Deno.env.get("WEIR_LAB_CASES") ?? 240);
const ONLY = Deno.env.get("WEIR_LAB_ONLY");
/** Of the sample: half are of the generated cases, which are small. */
const SHARES = { generated: 0.5, random: 0.25, cilium: 0.25 };
/** Random sets for each case of the sample. */
const RANDOM_SHARE = 0.125;
/** So many cases fail before the rest is given up. */
const FAILED_MAX = 5;

const generated = await kubernetesCases("generated-mock"), random = await kubernetesCases("random");
const bed = new Bed(`con${Deno.pid}`, [generated.model, random.model, RANDOM_MODEL]);
let prober: Prober | undefined;

if (canRun) {
  Deno.test.beforeAll(async () => {
    const pods = await bed.up();
    const ports = [53, 80, 81, 88, 443, 8080, 9000, 9001, 9002, 9003];
    prober = await Prober.start(
      pods,
      ["TCP", "UDP"].flatMap((name) => ports.map((port) => [name, port] as const)),
    );
  });
  Deno.test.afterAll(async () => {
    await prober?.[Symbol.asyncDispose]();
    await bed.lab.down();
  });
}
const labTest = (name: string, body: () => Promise<void>) => Deno.test({ name, ignore: !canRun, fn: body });

labTest(
  "The kernel of a lab gives the verdicts of conformance cases, between all pods, IPv4 and IPv6",
  async () => {
    const dice = new Random(SEED);
    const take = (cases: readonly LabCase[], share: number) =>
      dice.shuffle(cases).slice(0, Math.ceil(CASES * share));
    const others = await Promise.all(["generated-spread", "generated-ipv6"].map(kubernetesCases));
    await tryAll(chosen([
      ...take([generated, ...others].flatMap(({ cases }) => cases), SHARES.generated),
      ...take(random.cases, SHARES.random),
      ...take(await ciliumCases(), SHARES.cilium),
    ]));
  },
);

labTest("The kernel of a lab agrees with the engine and the slow evaluator on random policies", async () => {
  const cases = Array.from(
    { length: Math.ceil(CASES * RANDOM_SHARE) },
    (_, index) => randomCase(SEED * 1000 + index),
  );
  await tryAll(chosen(cases));
});

labTest("What passes and was not to, and what was to and does not, is seen", async () => {
  const [from, to, other] = ["x/a", "x/b", "x/c"];
  await bed.apply([{
    apiVersion: "networking.k8s.io/v1",
    kind: "NetworkPolicy",
    metadata: { name: "closed", namespace: "x" },
    spec: { podSelector: { matchLabels: { pod: "b" } }, policyTypes: ["Ingress"] },
  }]);
  const probes = (["TCP", "UDP"] as const).flatMap((protocol) => [
    { from, to, protocol, port: 80, passes: true },
    { from, to: other, protocol, port: 80, passes: false },
  ]);
  const { wrong } = await prober!.run(probes, 1);
  assert.deepEqual(
    wrong.map(({ probe, family, found }) => `${probe.protocol} ${probe.to} ${family} ${found}`).sort(),
    ["TCP", "UDP"].flatMap((name) =>
      [4, 6].flatMap((family) => [
        `${name} ${to} ${family} silent`,
        `${name} ${other} ${family} passed`,
      ])
    ).sort(),
  );
});

const chosen = (cases: readonly LabCase[]) =>
  ONLY === undefined ? cases : cases.filter(({ id }) => id.includes(ONLY));

/** Tries every probe of every case, and fails with those that came out otherwise. */
async function tryAll(cases: readonly LabCase[]): Promise<void> {
  const failed: string[] = [], startMs = performance.now();
  let probes = 0, denied = 0, again = 0, done = 0, applyMs = 0;
  for (const { id, manifests, probes: asked } of cases) {
    const beginMs = performance.now();
    await bed.apply(manifests);
    applyMs += performance.now() - beginMs;
    const before = await bed.dropped(),
      round = await prober!.run(asked),
      dropped = await bed.dropped() - before;
    const wrong = round.wrong.map(({ probe, family, found }) => {
      const { from, to, protocol, port, passes } = probe;
      return `${from} -> ${to} ${port}/${protocol} IPv${family}: expected ${
        passes ? "passed" : "silent"
      }, found ${found}`;
    });
    wrong.push(...round.late.map(([number, index]) => `datagram ${index} of round ${number} came late`));
    // What is silent was not lost, or slow: a program dropped it, with the reason.
    if (dropped < round.denied) {
      wrong.push(`${round.denied} are to be dropped by policy, and ${dropped} were`);
    }
    done++;
    probes += round.probes;
    denied += round.denied;
    again += round.again;
    if (wrong.length === 0) continue;
    failed.push(
      `WEIR_SEED=${SEED} WEIR_LAB_ONLY=${
        JSON.stringify(id)
      }: ${wrong.length} of ${round.probes} are wrong:\n${wrong.slice(0, 5).join("\n")}\n${
        JSON.stringify(manifests)
      }`,
    );
    if (failed.length === FAILED_MAX) break;
  }
  const seconds = (performance.now() - startMs) / 1000;
  console.log(
    `  ${done} cases, ${probes} connections, ${denied} of them denied, ${again} tried again; ${
      seconds.toFixed(0)
    } s, of which ${(applyMs / 1000).toFixed(0)} s until policies were in force`,
  );
  assert.deepEqual(failed, [], failed.join("\n\n"));
  assert.ok(ONLY !== undefined || (denied > probes / 10 && denied < probes * 0.9), `${denied} of ${probes}`);
}
