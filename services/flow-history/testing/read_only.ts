/**
 * A history whose file becomes read-only while it runs, and is when it begins. Run as root in a mount namespace of its own, with the path
 * of the file; prints what was seen as JSON.
 * @module
 */
import { FakeClock } from "@weir/common/testing/fake_clock";
import { blockful } from "./flows.ts";
import { testHistory } from "./history.ts";

const START_MS = 1_790_000_000_000;
const [path] = Deno.args, directory = path.slice(0, path.lastIndexOf("/"));
const clock = new FakeClock(START_MS), one = testHistory(clock, path), { history } = one;

function run(...command: string[]): void {
  const { success, stderr } = new Deno.Command(command[0], { args: command.slice(1) }).outputSync();
  if (!success) throw new Error(`${command.join(" ")}: ${new TextDecoder().decode(stderr)}`);
}
const failureOf = (work: Promise<unknown>): Promise<string> =>
  work.then(() => "none", ({ message }) => /readonly|read-only/.test(message) ? "readonly" : message);

run("mount", "--make-rprivate", "/");
await history.load();
history.intake.take(blockful(START_MS));
await history.flush();
run("mount", "--bind", directory, directory);
run("mount", "-o", "remount,bind,ro", directory);
// An open file stays writable here; one that fails with its device is opened again.
history.store.database.explain(Object.assign(new Error("the device failed"), { errcode: 10 }));
history.intake.take(blockful(START_MS));
const error = await failureOf(history.flush()), waiting = history.waitingFlows;
const whileReadOnly = (await one.get("/v1/completeness")).total.text;
const shown = (await one.get("/v1/flows?last=1000")).flows.length;
const other = testHistory(clock, path), loadedReadOnly = await failureOf(other.history.load());
await other.close();
run("umount", "--lazy", directory);
// The first try finds the file as it was opened for reading, the next opens it anew.
await failureOf(history.flush());
await history.flush();
const after = (await one.get("/v1/completeness")).total.text;
console.log(JSON.stringify({
  ...{ error, waiting, whileReadOnly, shown, loadedReadOnly, after },
  waitingAfter: history.waitingFlows,
}));
await one.close();
