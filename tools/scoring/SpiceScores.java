// SPICE of caption segments as JSON, for Java 15 and later.
//
// The jar's own main method formats its output with a JavaScript engine, which Java 15 removed. This program calls the
// same parser and the same statistics and writes the JSON directly. Java runs it from source:
// java -cp spice-1.0.jar SpiceScores.java INPUT OUTPUT

import edu.anu.spice.SceneGraph;
import edu.anu.spice.SpiceParser;
import edu.anu.spice.SpiceStats;
import java.io.FileReader;
import java.io.FileWriter;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import org.json.simple.JSONArray;
import org.json.simple.JSONObject;
import org.json.simple.parser.JSONParser;

public class SpiceScores {
    public static void main(String[] args) throws Exception {
        List<Object> ids = new ArrayList<>();
        List<String> captions = new ArrayList<>();
        List<String> references = new ArrayList<>();
        List<Integer> referencesPerCaption = new ArrayList<>();
        for (Object entry : (JSONArray) new JSONParser().parse(new FileReader(args[0]))) {
            JSONObject segment = (JSONObject) entry;
            JSONArray own = (JSONArray) segment.get("refs");
            ids.add(segment.get("image_id"));
            captions.add((String) segment.get("test"));
            referencesPerCaption.add(own.size());
            for (Object reference : own) {
                references.add((String) reference);
            }
        }
        int threads = Runtime.getRuntime().availableProcessors();
        SpiceParser parser = new SpiceParser(null, threads, true);
        List<SceneGraph> expected = parser.parseCaptions(references, referencesPerCaption);
        List<SceneGraph> actual = parser.parseCaptions(captions);
        SpiceStats statistics = new SpiceStats(new HashMap<>(), false);
        for (int i = 0; i < actual.size(); i++) {
            statistics.score(ids.get(i), actual.get(i), expected.get(i), true);
        }
        try (FileWriter output = new FileWriter(args[1])) {
            output.write(statistics.toJSONString());
        }
    }
}
