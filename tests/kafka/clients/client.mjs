/**
 * What a program does with kafkajs, through a proxy that lets it produce to and consume from "orders" alone. Arguments: what to import, port, group. Prints one JSON object: what
 * each step gave.
 */
const [module, port, group] = Deno.args;
const { Kafka, logLevel } = (await import(module)).default;
const retry = { retries: 8, initialRetryTime: 200 };
const kafka = new Kafka({
  clientId: "shop",
  brokers: [`127.0.0.1:${port}`],
  logLevel: logLevel.NOTHING,
  connectionTimeout: 60_000,
  requestTimeout: 60_000,
  retry,
});
const found = {};

async function step(name, work) {
  try {
    found[name] = await work();
  } catch (error) {
    found[name] = error.type ?? error.cause?.type ?? `${error.name}: ${error.message}`;
  }
}

async function send(sender, topic, count, size = 100) {
  const messages = Array.from({ length: count }, (_, at) => ({ value: `${at} ${"x".repeat(size)}` }));
  const answers = await sender.send({ topic, messages });
  return answers.every(({ errorCode }) => errorCode === 0) ? ["ok", count] : answers;
}

async function consume(topic, count) {
  const consumer = kafka.consumer({ groupId: group, maxBytesPerPartition: 4_000_000 });
  await consumer.connect();
  let seen = 0;
  try {
    await consumer.subscribe({ topic, fromBeginning: true });
    await new Promise((resolve, reject) => {
      consumer.on(consumer.events.CRASH, ({ payload }) => reject(payload.error));
      consumer.run({ eachMessage: () => void (++seen === count && resolve()) }).catch(reject);
    });
  } finally {
    await consumer.disconnect();
  }
  return seen;
}

async function transaction(topic) {
  const sender = kafka.producer({
    transactionalId: `tx-${group}`,
    maxInFlightRequests: 1,
    idempotent: true,
    retry,
  });
  await sender.connect();
  try {
    const open = await sender.transaction();
    try {
      await send(open, topic, 1);
    } catch (error) {
      await open.abort();
      throw error;
    }
    await open.commit();
    return "ok";
  } finally {
    await sender.disconnect();
  }
}

const admin = kafka.admin(), producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1, retry });
await admin.connect();
await producer.connect();
await step("topics", async () => (await admin.listTopics()).filter((name) => !name.startsWith("__")));
await step("produce", () => send(producer, "orders", 20));
await step("produce denied", () => send(producer, "secret", 1));
await step("produce again", () => send(producer, "orders", 20));
await step("produce large", () => send(producer, "orders", 3, 900_000));
await step("consume", () => consume("orders", 43));
await step("consume denied", () => consume("secret", 1));
await step("transaction", () => transaction("orders"));
await step("transaction denied", () => transaction("secret"));
await Promise.all([admin.disconnect(), producer.disconnect()]);
console.log(JSON.stringify(found));
Deno.exit(0);
