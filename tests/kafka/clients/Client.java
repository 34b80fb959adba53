import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeSet;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/**
 * What a program does with the Java client, through a proxy that lets it produce to and consume from "orders" alone.
 * Arguments: port, group. Prints one JSON object: what each step gave.
 */
public class Client {
  interface Work {
    String run() throws Exception;
  }

  static final List<String> found = new ArrayList<>();

  static void step(String name, Work work) {
    String result;
    try {
      result = work.run();
    } catch (ExecutionException error) {
      result = error.getCause().getClass().getSimpleName();
    } catch (Exception error) {
      result = error.getClass().getSimpleName();
    }
    found.add("\"" + name + "\": \"" + result + "\"");
  }

  static Properties properties(String port, Map<String, String> more) {
    Properties all = new Properties();
    all.put("bootstrap.servers", "127.0.0.1:" + port);
    all.put("client.id", "shop");
    all.put("key.serializer", StringSerializer.class.getName());
    all.put("value.serializer", StringSerializer.class.getName());
    all.put("key.deserializer", StringDeserializer.class.getName());
    all.put("value.deserializer", StringDeserializer.class.getName());
    all.putAll(more);
    return all;
  }

  static String produce(KafkaProducer<String, String> producer, String topic, int count) throws Exception {
    for (int number = 0; number < count; number++) producer.send(new ProducerRecord<>(topic, "record " + number)).get();
    return "ok " + count;
  }

  static String consume(String port, String group, String protocol, String topic, int count) {
    Properties all = properties(port, Map.of("group.id", group + "-" + protocol, "group.protocol", protocol, "auto.offset.reset", "earliest"));
    try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(all)) {
      consumer.subscribe(List.of(topic));
      int seen = 0;
      for (long end = System.currentTimeMillis() + 90_000; seen < count && System.currentTimeMillis() < end;) {
        seen += consumer.poll(Duration.ofSeconds(1)).count();
      }
      consumer.commitSync();
      return "ok " + seen;
    }
  }

  public static void main(String[] args) {
    String port = args[0], group = args[1];
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties(port, Map.of("max.block.ms", "60000")))) {
      step("produce", () -> produce(producer, "orders", 10));
      step("produce denied", () -> produce(producer, "secret", 1));
      step("produce again", () -> produce(producer, "orders", 10));
    }
    try (KafkaProducer<String, String> producer = new KafkaProducer<>(properties(port, Map.of("transactional.id", "java-" + group)))) {
      step("transaction", () -> {
        producer.initTransactions();
        producer.beginTransaction();
        producer.send(new ProducerRecord<>("orders", "in a transaction")).get();
        producer.commitTransaction();
        return "ok";
      });
    }
    try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(properties(port, Map.of()))) {
      step("topics", () -> String.join(" ", new TreeSet<>(consumer.listTopics().keySet())));
    }
    step("consume", () -> consume(port, group, "classic", "orders", 21));
    step("consume denied", () -> consume(port, group, "classic", "secret", 1));
    step("consume by the new protocol", () -> consume(port, group, "consumer", "orders", 21));
    System.out.println("{" + String.join(", ", found) + "}");
    System.exit(0);
  }
}
