import { deepEqual, equal } from "node:assert/strict";
import { isHung, parseUsage, readUsage, type Silence } from "./sign_of_life.ts";

const LIMIT_MS = 20_000;

Deno.test("isHung() takes what is stopped, idle or endless for hung, and what is slow for slow", () => {
  const cases: [claim: string, silence: Silence, hung: boolean][] = [
    ["stopped", { silentMs: 21_000, misses: 3, cpuMs: 0, state: "T" }, true],
    ["stopped a moment ago", { silentMs: 12_000, misses: 3, cpuMs: 0, state: "T" }, false],
    ["deadlocked: it does nothing", { silentMs: 21_000, misses: 3, cpuMs: 30, state: "S" }, true],
    ["waits for a device for ever", { silentMs: 21_000, misses: 3, cpuMs: 0, state: "D" }, true],
    ["an endless loop", { silentMs: 26_000, misses: 4, cpuMs: 20_100, state: "R" }, true],
    ["an endless loop so far", { silentMs: 21_000, misses: 3, cpuMs: 15_000, state: "R" }, false],
    ["waits for a CPU on a machine under load", { silentMs: 30_000, misses: 5, cpuMs: 0, state: "R" }, false],
    ["asleep between long waits for a CPU", {
      silentMs: 38_000,
      misses: 6,
      cpuMs: 120,
      waitMs: 2500,
      state: "S",
    }, false],
    ["asleep, and waited no more than anybody", {
      silentMs: 38_000,
      misses: 6,
      cpuMs: 120,
      waitMs: 90,
      state: "S",
    }, true],
    ["works slowly", { silentMs: 40_000, misses: 6, cpuMs: 4000, state: "S" }, false],
    ["works slowly for too long", { silentMs: 121_000, misses: 18, cpuMs: 9000, state: "S" }, true],
    ["two misses, the supervisor itself stood still", { silentMs: 90_000, misses: 2, state: "S" }, false],
    ["the kernel does not say", { silentMs: 60_000, misses: 9 }, false],
    ["the kernel does not say, for too long", { silentMs: 120_000, misses: 18 }, true],
  ];
  for (const [claim, silence, hung] of cases) equal(isHung(silence, LIMIT_MS), hung, claim);
});

Deno.test("parseUsage() reads CPU time and state, whatever the process is called", () => {
  const rest = "1 1 1 0 -1 4194304 100 0 0 0 250 75 0 0 20 0 1 0 1 1 1";
  deepEqual(parseUsage(`17 (deno) R ${rest}`), { cpuMs: 3250, waitMs: 0, state: "R" });
  deepEqual(parseUsage(`17 (a) S (b)) T ${rest}`), { cpuMs: 3250, waitMs: 0, state: "T" });
  const more = `${rest}\n3250000000 1234567890 17\n`;
  deepEqual(parseUsage(`17 (deno) R ${more}`), { cpuMs: 3250, waitMs: 1235, state: "R" });
  equal(parseUsage(""), undefined);
  equal(parseUsage("17 (deno) R 1 2"), undefined);
});

Deno.test("readUsage() knows of this process, and nothing of one that is gone", async () => {
  const waitedMs = async () => Number((await Deno.readTextFile("/proc/self/schedstat")).split(" ")[1]) / 1e6;
  const first = await waitedMs(), own = await readUsage(Deno.pid), last = await waitedMs();
  equal(["R", "S"].includes(own!.state), true);
  const { waitMs } = own!;
  equal(Math.round(first) <= waitMs && waitMs <= Math.round(last), true, `${first} ${waitMs} ${last}`);
  equal(await readUsage(2 ** 30), undefined);
});
