from .programs import Programs as Programs
