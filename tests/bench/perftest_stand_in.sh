#!/bin/sh
# In place of ucx_perftest: no server listens when the first client comes, latency is 2.5
# microseconds and a message of a stream takes 4000. PERFTEST_MARK: a file that does not exist.
case " $* " in
*" 127.0.0.1 "*) ;;
*) exec sleep 100 ;;
esac
if [ ! -e "$PERFTEST_MARK" ]; then
    : >"$PERFTEST_MARK"
    exit 1
fi
echo "iterations,50.0_percentile_lat,avg_lat,overall_lat,avg_bw,overall_bw,avg_mr,overall_mr"
case " $* " in
*" -t tag_lat -s 16 "*) echo "20000,2.500,9.0,9.0,3.90,3.90,85292,85292" ;;
*" -t tag_bw "*) echo " 20,0.216,9.0,4000.0,757.33,757.33,16,16" ;;
esac
