import { equal, match, ok } from "node:assert/strict";
import { WeirClient } from "../client.ts";
import { question } from "./question.ts";

const answering = (handler: (request: Request) => Promise<Response> | Response) =>
  new WeirClient({ handler });
const ask = async (client: WeirClient) => await (await client.send("/livez")).text();

Deno.test("question() gives the answer, or how there was none", async () => {
  equal((await question(answering(() => new Response("ok")), ask)).kind, "answered");
  const refused = await question(answering(() => new Response("no", { status: 503 })), ask);
  equal(refused.kind, "refused");
  const away = await question(new WeirClient({ socket: "/none/x.sock" }), ask);
  equal(away.kind, "away");
});

Deno.test("question() ends by its deadline when nothing answers, also in the middle of an answer", async () => {
  const endless = () => new Response(new ReadableStream({ start: (c) => c.enqueue(new Uint8Array(1)) }));
  for (const handler of [() => new Promise<Response>(() => {}), endless]) {
    const answer = await question(answering(handler), ask, 300);
    equal(answer.kind, "hung");
    ok(answer.kind === "hung");
    match(answer.error, /does not answer within 0\.3 s/);
  }
});
