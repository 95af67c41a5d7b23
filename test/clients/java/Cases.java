// The cases, and how a client's answers are judged; Jdbc.java and HibernateOrm.java are the clients.

import com.google.gson.Gson;
import com.google.gson.JsonElement;
import java.io.Reader;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.Map;

final class Cases {
    record Row(int id, float[] embedding, float[] half, float[] sparse, String bits) {
        boolean same(Row other) {
            return id == other.id && Arrays.equals(embedding, other.embedding) && Arrays.equals(half, other.half)
                && Arrays.equals(sparse, other.sparse) && bits.equals(other.bits);
        }
    }

    record Search(String column, String operator, JsonElement query, double[] distances) {
        String operatorClass() {
            return TYPES.get(column) + "_" + CLASSES.get(operator) + "_ops";
        }

        float[] numbers() {
            return GSON.fromJson(query, float[].class);
        }

        String bits() {
            return query.getAsString();
        }
    }

    record Neighbor(int id, double distance) {
    }

    record All(List<Row> rows, List<Search> searches) {
    }

    interface Client {
        void test() throws Exception;
    }

    static final int LIMIT = 5;
    static final Map<String, String> TYPES = Map.of("embedding", "vector", "half", "halfvec", "sparse", "sparsevec", "bits", "bit");
    static final Map<String, String> CLASSES = Map.of("<->", "l2", "<#>", "ip", "<=>", "cosine", "<+>", "l1", "<~>", "hamming", "<%>", "jaccard");
    private static final Gson GSON = new Gson();
    static final All ALL = load();
    private static int checks;
    private static int failures;

    private Cases() {
    }

    private static All load() {
        try (Reader reader = Files.newBufferedReader(Path.of(System.getenv("CASES")))) {
            return GSON.fromJson(reader, All.class);
        } catch (Exception e) {
            throw new IllegalStateException(e);
        }
    }

    static String url() {
        return "jdbc:postgresql://" + System.getenv("PGHOST") + ":" + System.getenv("PGPORT") + "/" + System.getenv("PGDATABASE")
            + "?user=" + System.getenv("PGUSER") + "&password=" + System.getenv("PGPASSWORD");
    }

    static void ok(boolean condition, String name) {
        checks++;
        failures += condition ? 0 : 1;
        System.out.println((condition ? "ok " : "not ok ") + checks + " - " + name);
    }

    static void checkVersion(String version) {
        String[] parts = version.split("\\.");
        ok(Integer.parseInt(parts[0]) > 0 || Integer.parseInt(parts[1]) >= 8, "extension vector " + version);
    }

    private static boolean close(double a, double b) {
        return Math.abs(a - b) <= 1e-5 * Math.max(1, Math.abs(b));
    }

    /** Wants the nearest first; rows at the same distance may come in any order. */
    static void checkSearch(Search search, List<Neighbor> found, String how) {
        double[] nearest = search.distances().clone();
        Arrays.sort(nearest);
        boolean good = found.size() == LIMIT && found.stream().map(Neighbor::id).distinct().count() == LIMIT;
        for (int i = 0; good && i < LIMIT; i++) {
            double distance = search.distances()[found.get(i).id() - 1];
            good = close(found.get(i).distance(), distance) && close(distance, nearest[i]);
        }
        ok(good, search.column() + " " + search.operator() + how);
    }

    static void checkRows(List<Row> found, String name) {
        List<Row> sorted = found.stream().sorted(Comparator.comparingInt(Row::id)).toList();
        boolean good = sorted.size() == ALL.rows().size();
        for (int i = 0; good && i < sorted.size(); i++) {
            good = sorted.get(i).same(ALL.rows().get(i));
        }
        ok(good, name);
    }

    static void run(Client client) {
        try {
            client.test();
        } catch (Exception e) {
            ok(false, "no exception");
            for (Throwable t = e; t != null; t = t.getCause()) {
                System.out.println("# " + t.toString().replace("\n", "\n# "));
                for (StackTraceElement frame : t.getStackTrace()) {
                    System.out.println("#     " + frame);
                }
            }
        }
        System.out.println("1.." + checks);
        System.exit(failures > 0 ? 1 : 0);
    }
}
