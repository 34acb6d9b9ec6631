"""A simulator of AWS Elemental MediaConvert and of the events that EventBridge sends of it.

`service`: the jobs and their life; requests are held to botocore's own model (`model`). `wire`: its REST API, over HTTP
or straight into a boto3 client. `encoder`: makes the outputs of a job for real, with ffmpeg, from S3 to S3. `bus`: its
events, which it delays, repeats, drops and reorders.
"""
